// What HTMX and the design system do not do by themselves.
"use strict";

const TOAST_MILLISECONDS = 6000;
const toasts = document.getElementById("toasts");

function fade(toast) {
  if (toast.dataset.kind === "danger") return;
  setTimeout(() => toast.remove(), TOAST_MILLISECONDS);
}

function showToast(message, kind) {
  const toast = document.createElement("div");
  const body = document.createElement("div");
  toast.className = "toast show";
  toast.dataset.kind = kind || "success";
  body.className = "toast-body";
  body.textContent = message;
  toast.append(body);
  toasts.append(toast);
  fade(toast);
}

toasts.querySelectorAll(".toast").forEach(fade);
toasts.addEventListener("click", (event) => event.target.closest(".toast")?.remove());

// Every request that changes something carries the CSRF token of the page.
document.addEventListener("htmx:configRequest", (event) => {
  if (event.detail.verb !== "get") {
    event.detail.headers["X-CSRFToken"] = document.querySelector('meta[name="csrf-token"]').content;
  }
});
document.addEventListener("toast", (event) => showToast(event.detail.message, event.detail.kind));
document.addEventListener("htmx:sendError", () => showToast("The panel cannot be reached. Nothing was changed.", "danger"));
document.addEventListener("htmx:responseError", (event) => {
  const page = new DOMParser().parseFromString(event.detail.xhr.responseText, "text/html");
  showToast(page.querySelector("[data-error]")?.textContent || "That did not work. Nothing was changed.", "danger");
});

// Light or dark: the system's choice until a person makes one.
const toggle = document.getElementById("theme-toggle");
function isDark() { return document.documentElement.getAttribute("data-bs-theme") === "dark"; }
if (toggle) {
  toggle.setAttribute("aria-pressed", String(isDark()));
  toggle.addEventListener("click", () => {
    try { localStorage.setItem("theme", isDark() ? "light" : "dark"); } catch (_) { /* storage may be refused */ }
    window.tenantryTheme();
    toggle.setAttribute("aria-pressed", String(isDark()));
  });
}

// Times come in UTC; people read them in their own zone.
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
function localTimes(root) {
  root.querySelectorAll("time[datetime]:not([data-local])").forEach((time) => {
    const text = exact.format(new Date(time.dateTime));
    time.title = text;
    time.dataset.local = "";
    if (!("ago" in time.dataset)) time.textContent = text;
  });
}
localTimes(document);
document.addEventListener("htmx:load", (event) => localTimes(event.detail.elt));

// The first field that is wrong gets the focus.
function focusProblem(root) { root.querySelector('[aria-invalid="true"]')?.focus(); }
focusProblem(document);
document.addEventListener("htmx:load", (event) => focusProblem(event.detail.elt));

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(button.dataset.copy);
  showToast("Copied.", "success");
});

// A hint only: the server decides what is strong enough.
function strength(password) {
  if (password.length < 12) return Math.min(1, password.length / 12);
  return Math.min(4, 1 + new Set(password).size / 8 + (password.length - 12) / 8);
}
document.addEventListener("input", (event) => {
  const meter = document.getElementById(event.target.dataset?.strength || "");
  if (meter) meter.value = strength(event.target.value);
});

// A time zone that is not chosen yet is the viewer's own.
document.querySelectorAll("[data-own-zone]").forEach((field) => {
  field.value ||= Intl.DateTimeFormat().resolvedOptions().timeZone;
});

// Lines of a form that have an order: they move up and down, and there can be more of them.
function number(list) {
  const word = list.dataset.lines;
  [...list.children].forEach((line, at, lines) => {
    line.querySelector("input").setAttribute("aria-label", `${word} ${at + 1}`);
    line.querySelectorAll("[data-move]").forEach((button) => {
      const up = button.dataset.move === "-1";
      button.hidden = false;
      button.disabled = up ? at === 0 : at === lines.length - 1;
      button.setAttribute("aria-label", `Move ${word.toLowerCase()} ${at + 1} ${up ? "up" : "down"}`);
    });
  });
}
function addLine(list) {
  const line = list.lastElementChild.cloneNode(true);
  const field = line.querySelector("input");
  field.value = "";
  field.removeAttribute("aria-invalid");
  field.classList.remove("is-invalid");
  list.append(line);
  number(list);
  field.focus();
}
document.querySelectorAll("[data-lines]").forEach((list) => {
  number(list);
  const add = list.parentElement.querySelector("[data-add-line]");
  add.hidden = false;
  add.addEventListener("click", () => addLine(list));
  list.addEventListener("click", (event) => {
    const button = event.target.closest("[data-move]");
    const line = button?.closest("[data-line]");
    if (!line) return;
    if (button.dataset.move === "-1") line.previousElementSibling?.before(line);
    else line.nextElementSibling?.after(line);
    number(list);
    (button.disabled ? line.querySelector("[data-move]:not(:disabled)") : button)?.focus();
  });
});

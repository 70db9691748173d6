// Runs before the first paint, so that the page never flashes in the wrong colours.
(function () {
  "use strict";
  var dark = window.matchMedia("(prefers-color-scheme: dark)");
  function wanted() {
    var kept = null;
    try { kept = localStorage.getItem("theme"); } catch (_) { /* storage may be refused */ }
    return kept === "light" || kept === "dark" ? kept : dark.matches ? "dark" : "light";
  }
  function apply() { document.documentElement.setAttribute("data-bs-theme", wanted()); }
  apply();
  dark.addEventListener("change", apply);
  window.tenantryTheme = apply;
})();

"""Handing one mail to the mail server. What is written, and what became of it, is in panel/outbox."""

from __future__ import annotations

import smtplib
import ssl
from email.message import EmailMessage
from ipaddress import ip_address
from urllib.parse import urlsplit

from flask import current_app

from panel.config import Config, Smtp

SMTP_SECONDS = 10
"""How long a mail server may take to answer."""
NotTaken = (OSError, smtplib.SMTPException)
"""What `deliver` raises when the mail server cannot be reached or refuses."""


def smtp_settings() -> Smtp | None:
    return _config().smtp


def is_embedded() -> bool:
    """Whether this is the installation of somebody who tries things out at this very machine."""
    return smtp_settings() is None and is_local_name(urlsplit(_config().base_url).hostname or "")


def is_local_name(name: str) -> bool:
    return name == "localhost" or is_loopback(name)


def is_loopback(address: str | None) -> bool:
    try:
        return ip_address(address or "").is_loopback
    except ValueError:
        return False


def deliver(smtp: Smtp, to: str, subject: str, text: str) -> None:
    """Raises one of `NotTaken`."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = smtp.sender, to, subject
    message.set_content(text)
    context = ssl.create_default_context()
    if smtp.security == "tls":
        server: smtplib.SMTP = smtplib.SMTP_SSL(smtp.host, smtp.port, timeout=SMTP_SECONDS, context=context)
    else:
        server = smtplib.SMTP(smtp.host, smtp.port, timeout=SMTP_SECONDS)
    with server:
        if smtp.security == "starttls":
            server.starttls(context=context)
        if smtp.username:
            server.login(smtp.username, smtp.password)
        server.send_message(message)


def _config() -> Config:
    config: Config = current_app.extensions["tenantry.config"]
    return config

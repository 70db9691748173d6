"""Writing mails, handing them over, and listing those that stay here."""

from __future__ import annotations

import logging

from sqlmodel import Session, col, select

from panel.mail import NotTaken, deliver, smtp_settings
from panel.models import OutboxMail

log = logging.getLogger("tenantry.mail")
SHOWN = 50
"""Mails on the outbox page, the newest ones."""


def write(session: Session, to: str, subject: str, text: str) -> OutboxMail:
    """Put a mail into the outbox, in the caller's transaction; `post` it after the commit."""
    mail = OutboxMail(to=to, subject=subject, text=text, state="queued" if smtp_settings() else "kept")
    session.add(mail)
    return mail


def post(session: Session, mail: OutboxMail) -> None:
    """Hand a queued mail to the mail server. A failure is kept with the mail and never raised: the deed
    that the mail tells of is done."""
    smtp = smtp_settings()
    if smtp is None or mail.state != "queued":
        return
    to, subject, text = mail.to, mail.subject, mail.text
    session.commit()  # no lock is held while the mail server takes its time
    try:
        deliver(smtp, to, subject, text)
        mail.state, mail.text = "sent", ""
    except NotTaken as error:
        log.warning("mail to %s was not taken by %s: %s", to, smtp.host, error)
        mail.state, mail.error = "failed", str(error)[:500]
    session.commit()


def newest(session: Session) -> list[OutboxMail]:
    kept = select(OutboxMail).where(OutboxMail.state == "kept")
    return list(session.exec(kept.order_by(col(OutboxMail.created_at).desc()).limit(SHOWN)).all())

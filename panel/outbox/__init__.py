"""Mails that the panel writes: sent by SMTP where that is set up, else kept and shown on a local page."""

"""Signing up an organisation, and proving its e-mail address."""

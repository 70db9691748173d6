"""The publishing services with the application's own database, key and settings already in their hands."""

from __future__ import annotations

from flask import current_app

from panel.config import Config
from panel.db import database
from panel.publishing.delivery import Delivery
from panel.secrets import vault


def config() -> Config:
    found: Config = current_app.extensions["tenantry.config"]
    return found


def delivery() -> Delivery:
    return Delivery(database(), vault(), config())

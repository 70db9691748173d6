"""`tenantry`: the commands for whoever runs the installation."""

from __future__ import annotations

import code
import sys
from typing import Any

import click
from flask import Flask

from panel import migrate, models, seeding
from panel.actor import Actor
from panel.app import create_app
from panel.config import Config, ConfigError
from panel.db import database, get_session
from panel.scope import system_scope
from panel.setup import service as setup

COMMAND_LINE = Actor(None, "command line")


@click.group()
@click.version_option(package_name="tenantry")
@click.pass_context
def cli(context: click.Context) -> None:
    """Tenantry's panel. Settings come from TENANTRY_* environment variables, see docs/."""
    app = create_app()
    context.obj = app
    context.with_resource(app.app_context())


@cli.group()
def db() -> None:
    """The database."""


@db.command()
@click.argument("revision", default=migrate.NEWEST)
def upgrade(revision: str) -> None:
    """Bring the database to the newest shape, or to REVISION."""
    migrate.upgrade(database().engine, revision)
    click.echo("The database is up to date.")


@db.command()
@click.argument("revision")
def downgrade(revision: str) -> None:
    """Take the database back to REVISION ("base" drops everything)."""
    migrate.downgrade(database().engine, revision)


@db.command()
@click.argument("message")
@click.option("--id", "revision_id", required=True, help="Such as 0002.")
def revise(message: str, revision_id: str) -> None:
    """Write a migration for what the models say and the database lacks."""
    migrate.revise(database().engine, message, revision_id)


@db.command()
def check() -> None:
    """Say whether the database is what the models expect; exit status 1 when it is not."""
    found = migrate.differences(database().engine)
    for difference in found:
        click.echo(str(difference), err=True)
    if found or not migrate.is_current(database().engine):
        raise click.ClickException("The database is not up to date: run tenantry db upgrade.")
    click.echo("The database is up to date.")


@cli.command("setup-link")
@click.pass_obj
def setup_link(app: Flask) -> None:
    """Print a one-time link that creates the provider's account, while there is none."""
    token = setup.new_link(get_session(), COMMAND_LINE)
    if token is None:
        click.echo("The provider has an account already; no link is needed.", err=True)
        return
    config: Config = app.extensions["tenantry.config"]
    click.echo(f"{config.base_url}/setup/{token}")


@cli.command()
@click.option("--password", help="One password for the whole cast; without it each gets its own, printed once.")
@click.pass_obj
def seed(app: Flask, password: str | None) -> None:
    """Fill in an example cast: root, alice, bob and carol, with the tenants acme and globex."""
    config: Config = app.extensions["tenantry.config"]
    cast = seeding.seed(get_session(), COMMAND_LINE, config, password, examples=True)
    click.echo(f"Sign in at {config.base_url}/sign-in")
    for line in cast:
        click.echo(f"  {line.email:24} {line.password or '(password unchanged)':24} {line.part}")


@cli.command()
@click.pass_obj
def pull(app: Flask) -> None:
    """Pull events and keep nodes up to date, until Ctrl-C; for running apart what the panel does by itself."""
    from panel.publishing import puller

    puller.run_for(app)


@cli.command()
def shell() -> None:
    """A Python shell with `session`, all models, `select`, and every tenant in view."""
    from sqlmodel import select

    names: dict[str, Any] = {name: getattr(models, name) for name in models.__all__}
    session = get_session()
    with system_scope(session, "tenantry shell"):
        banner = "session, select, and the models: " + ", ".join(models.__all__)
        code.interact(banner, local={**names, "session": session, "select": select}, exitmsg="")


def main() -> None:
    """Entry point of the command."""
    try:
        cli()
    except ConfigError as error:
        sys.exit(f"tenantry: {error}")


if __name__ == "__main__":
    main()

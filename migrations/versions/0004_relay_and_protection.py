"""Relayed registrations and media, further addresses of a PBX, guards against toll fraud, networks for all."""

from __future__ import annotations

from contextlib import AbstractContextManager

import sqlalchemy as sa
from alembic import op
from alembic.operations import BatchOperations

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ID = sa.String(length=24)
STRATEGIES = ("on_behalf", "relay", "none")
STRATEGIES_BEFORE = ("on_behalf", "none")


def upgrade() -> None:
    with _change("connections") as batch:
        batch.add_column(sa.Column("alternates", sa.JSON(), nullable=False, server_default="[]"))
        batch.add_column(sa.Column("media", sa.String(length=16), nullable=False, server_default="direct"))
        _strategy(batch, STRATEGIES)
        batch.create_check_constraint(op.f("ck_connections_media"), one_of("media", ("direct", "relay")))
    _guards()
    _installation_guards()
    _source_rules()


def downgrade() -> None:
    """Where phones registered at the PBX themselves nobody is registered any more, so the connection is disabled."""
    op.drop_table("source_rules")
    op.drop_table("installation_guards")
    op.drop_table("guards")
    op.execute("UPDATE connections SET strategy = 'on_behalf', enabled = false WHERE strategy = 'relay'")
    with _change("connections") as batch:
        _strategy(batch, STRATEGIES_BEFORE)
        batch.drop_constraint(op.f("ck_connections_media"), type_="check")
        for column in ("media", "alternates"):
            batch.drop_column(column)


def one_of(column: str, values: tuple[str, ...]) -> str:
    listed = ", ".join(f"'{value}'" for value in values)
    return f"{column} IN ({listed})"


def _change(table: str) -> AbstractContextManager[BatchOperations]:
    """SQLite makes the table anew."""
    sqlite = op.get_bind().dialect.name == "sqlite"
    return op.batch_alter_table(table, recreate="always" if sqlite else "never")


def _strategy(batch: BatchOperations, values: tuple[str, ...]) -> None:
    batch.drop_constraint(op.f("ck_connections_strategy"), type_="check")
    batch.create_check_constraint(op.f("ck_connections_strategy"), one_of("strategy", values))


def _guards() -> None:
    op.create_table(
        "guards",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant_id", ID, nullable=False),
        sa.Column("prefix", sa.String(length=32), nullable=False),
        sa.Column("calls_per_hour", sa.Integer(), nullable=False),
        sa.Column("schedule_id", ID, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_guards_tenant_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "schedule_id"],
            ["schedules.tenant_id", "schedules.id"],
            name=op.f("fk_guards_tenant_id_schedule_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_guards")),
        sa.UniqueConstraint("tenant_id", "prefix", name=op.f("uq_guards_tenant_id_prefix")),
    )
    for column in ("tenant_id", "schedule_id"):
        op.create_index(op.f(f"ix_guards_{column}"), "guards", [column], unique=False)


def _installation_guards() -> None:
    op.create_table(
        "installation_guards",
        sa.Column("id", ID, nullable=False),
        sa.Column("prefix", sa.String(length=32), nullable=False),
        sa.Column("calls_per_hour", sa.Integer(), nullable=False),
        sa.Column("note", sa.String(length=200), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_installation_guards")),
        sa.UniqueConstraint("prefix", name=op.f("uq_installation_guards_prefix")),
    )


def _source_rules() -> None:
    op.create_table(
        "source_rules",
        sa.Column("id", ID, nullable=False),
        sa.Column("network", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("note", sa.String(length=200), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(one_of("kind", ("allowed", "blocked")), name=op.f("ck_source_rules_kind")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_source_rules")),
        sa.UniqueConstraint("network", name=op.f("uq_source_rules_network")),
    )

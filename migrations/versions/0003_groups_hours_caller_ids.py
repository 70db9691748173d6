"""Ring groups, business hours, caller ids, fall-backs and TLS.

Independent of what another migration did to the transports of a connection: the rule is written anew.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import sqlalchemy as sa
from alembic import op
from alembic.operations import BatchOperations

revision = "0003"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.String(length=24)
TARGET = sa.String(length=128)
TRANSPORTS = ("udp", "tcp", "tls", "auto")
TRANSPORTS_BEFORE = ("udp", "tcp")
ONE_TARGET = (
    "(CASE WHEN user_id IS NULL THEN 0 ELSE 1 END) + (CASE WHEN group_id IS NULL THEN 0 ELSE 1 END) + "
    "(CASE WHEN forward = '' THEN 0 ELSE 1 END) = 1"
)
ONE_TARGET_BEFORE = "(user_id IS NULL) <> (forward = '')"


def upgrade() -> None:
    _schedules()
    _users()
    _connections()
    _groups()
    _group_members()
    _numbers()
    _outbound_rules()
    with _change("tenants") as batch:
        batch.add_column(text("caller_id", 64))


def downgrade() -> None:
    with _change("tenants") as batch:
        batch.drop_column("caller_id")
    _outbound_rules_before()
    _numbers_before()
    op.drop_table("group_members")
    op.drop_table("groups")
    _connections_before()
    _users_before()
    op.drop_table("schedules")


def text(name: str, length: int, default: str = "") -> sa.Column[str]:
    return sa.Column(name, sa.String(length=length), nullable=False, server_default=default)


def one_of(column: str, values: tuple[str, ...]) -> str:
    listed = ", ".join(f"'{value}'" for value in values)
    return f"{column} IN ({listed})"


def _sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"


def _rule(batch: BatchOperations, table: str, name: str, rule: str, instead: bool = False) -> None:
    """A rule of the database; with `instead` in the place of the one of that name."""
    name = op.f(f"ck_{table}_{name}")
    if instead:
        batch.drop_constraint(name, type_="check")
    batch.create_check_constraint(name, rule)


def _tenant_key(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["tenant_id"], ["tenants.id"], name=op.f(f"fk_{table}_tenant_id"), ondelete="CASCADE"
    )


def _refer(batch: BatchOperations, table: str, other: str, column: str) -> None:
    """A foreign key that holds the tenant, too."""
    name = op.f(f"fk_{table}_tenant_id_{column}")
    batch.create_foreign_key(name, other, ["tenant_id", column], ["tenant_id", "id"])


def _change(table: str) -> AbstractContextManager[BatchOperations]:
    """SQLite makes the table anew."""
    return op.batch_alter_table(table, recreate="always" if _sqlite() else "never")


def _index(table: str, *columns: str) -> None:
    for column in columns:
        op.create_index(op.f(f"ix_{table}_{column}"), table, [column], unique=False)


def _schedules() -> None:
    op.create_table(
        "schedules",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant_id", ID, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("time_zone", sa.String(length=64), nullable=False),
        sa.Column("openings", sa.JSON(), nullable=False),
        sa.Column("holidays", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        _tenant_key("schedules"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedules")),
        sa.UniqueConstraint("tenant_id", "id", name=op.f("uq_schedules_tenant_id_id")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("uq_schedules_tenant_id_name")),
    )
    _index("schedules", "tenant_id")


def _groups() -> None:
    op.create_table(
        "groups",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant_id", ID, nullable=False),
        sa.Column("extension", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("aliases", sa.JSON(), nullable=False),
        sa.Column("strategy", sa.String(length=16), nullable=False),
        sa.Column("member_seconds", sa.Integer(), nullable=False),
        sa.Column("ring_seconds", sa.Integer(), nullable=False),
        sa.Column("forward_no_answer", TARGET, nullable=False),
        sa.Column("schedule_id", ID, nullable=True),
        sa.Column("forward_closed", TARGET, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(one_of("strategy", ("all", "in_turn", "round_robin")), name=op.f("ck_groups_strategy")),
        _tenant_key("groups"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "schedule_id"],
            ["schedules.tenant_id", "schedules.id"],
            name=op.f("fk_groups_tenant_id_schedule_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_groups")),
        sa.UniqueConstraint("tenant_id", "extension", name=op.f("uq_groups_tenant_id_extension")),
        sa.UniqueConstraint("tenant_id", "id", name=op.f("uq_groups_tenant_id_id")),
    )
    _index("groups", "tenant_id", "schedule_id")


def _group_members() -> None:
    op.create_table(
        "group_members",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant_id", ID, nullable=False),
        sa.Column("group_id", ID, nullable=False),
        sa.Column("user_id", ID, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        _tenant_key("group_members"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "group_id"],
            ["groups.tenant_id", "groups.id"],
            name=op.f("fk_group_members_tenant_id_group_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "user_id"],
            ["users.tenant_id", "users.id"],
            name=op.f("fk_group_members_tenant_id_user_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_group_members")),
        sa.UniqueConstraint("group_id", "user_id", name=op.f("uq_group_members_group_id_user_id")),
    )
    _index("group_members", "tenant_id", "user_id")


def _users() -> None:
    with _change("users") as batch:
        batch.add_column(sa.Column("do_not_disturb", sa.Boolean(), nullable=False, server_default=sa.false()))
        batch.add_column(sa.Column("schedule_id", ID, nullable=True))
        batch.add_column(text("forward_closed", 128))
        batch.add_column(text("fork", 16, "parallel"))
        batch.add_column(sa.Column("serial_seconds", sa.Integer(), nullable=False, server_default="15"))
        batch.add_column(text("caller_id", 64))
        batch.add_column(sa.Column("hide_caller_id", sa.Boolean(), nullable=False, server_default=sa.false()))
        _refer(batch, "users", "schedules", "schedule_id")
        _rule(batch, "users", "fork", one_of("fork", ("parallel", "serial")))
    _index("users", "schedule_id")


def _users_before() -> None:
    op.drop_index(op.f("ix_users_schedule_id"), "users")
    with _change("users") as batch:
        batch.drop_constraint(op.f("ck_users_fork"), type_="check")
        batch.drop_constraint(op.f("fk_users_tenant_id_schedule_id"), type_="foreignkey")
        for column in ("hide_caller_id", "caller_id", "serial_seconds", "fork", "forward_closed", "schedule_id"):
            batch.drop_column(column)
        batch.drop_column("do_not_disturb")


def _connections() -> None:
    with _change("connections") as batch:
        batch.add_column(sa.Column("tls_verify", sa.Boolean(), nullable=False, server_default=sa.true()))
        batch.add_column(text("tls_client", 253))
        batch.add_column(text("caller_id", 16, "account"))
        _rule(batch, "connections", "transport", one_of("transport", TRANSPORTS), instead=True)
        _rule(batch, "connections", "caller_id", one_of("caller_id", ("account", "from", "asserted", "both")))


def _connections_before() -> None:
    """What goes over TLS, or as DNS says, goes over TCP again."""
    op.execute("UPDATE connections SET transport = 'tcp' WHERE transport NOT IN ('udp', 'tcp')")
    with _change("connections") as batch:
        _rule(batch, "connections", "transport", one_of("transport", TRANSPORTS_BEFORE), instead=True)
        batch.drop_constraint(op.f("ck_connections_caller_id"), type_="check")
        for column in ("caller_id", "tls_client", "tls_verify"):
            batch.drop_column(column)


def _numbers() -> None:
    with _change("numbers") as batch:
        batch.add_column(sa.Column("group_id", ID, nullable=True))
        batch.add_column(sa.Column("schedule_id", ID, nullable=True))
        batch.add_column(text("forward_closed", 128))
        _refer(batch, "numbers", "groups", "group_id")
        _refer(batch, "numbers", "schedules", "schedule_id")
        _rule(batch, "numbers", "target", ONE_TARGET, instead=True)
    _index("numbers", "group_id", "schedule_id")


def _numbers_before() -> None:
    """A number that rings a group had nobody to ring before: it goes."""
    op.execute("DELETE FROM numbers WHERE group_id IS NOT NULL")
    for column in ("schedule_id", "group_id"):
        op.drop_index(op.f(f"ix_numbers_{column}"), "numbers")
    with _change("numbers") as batch:
        _rule(batch, "numbers", "target", ONE_TARGET_BEFORE, instead=True)
        batch.drop_constraint(op.f("fk_numbers_tenant_id_schedule_id"), type_="foreignkey")
        batch.drop_constraint(op.f("fk_numbers_tenant_id_group_id"), type_="foreignkey")
        for column in ("forward_closed", "schedule_id", "group_id"):
            batch.drop_column(column)


def _outbound_rules() -> None:
    with _change("outbound_rules") as batch:
        batch.add_column(text("pattern", 64))
        batch.add_column(sa.Column("fallback_id", ID, nullable=True))
        _refer(batch, "outbound_rules", "connections", "fallback_id")
    _index("outbound_rules", "fallback_id")


def _outbound_rules_before() -> None:
    """A rule by pattern would take everything without it: it goes."""
    op.execute("DELETE FROM outbound_rules WHERE pattern <> ''")
    op.drop_index(op.f("ix_outbound_rules_fallback_id"), "outbound_rules")
    with _change("outbound_rules") as batch:
        batch.drop_constraint(op.f("fk_outbound_rules_tenant_id_fallback_id"), type_="foreignkey")
        for column in ("fallback_id", "pattern"):
            batch.drop_column(column)

"""An organisation with users, a connection in multi-tenant mode, numbers and rules, all live by the services."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlmodel import col, select

from panel.connections import service as connections
from panel.connections.forms import ConnectionInput
from panel.groups import service as groups
from panel.groups.forms import GroupInput
from panel.guards import service as guards
from panel.guards.forms import GuardInput
from panel.models import Domain, User
from panel.numbers import service as numbers
from panel.numbers.forms import NumberInput, RuleInput
from panel.publishing import at_hand
from panel.publishing import service as publishing
from panel.schedules import service as schedules
from panel.schedules.forms import ScheduleInput
from panel.scope import TenantScope
from panel.secrets import vault
from panel.users import service as users
from panel.users.forms import AccountInput, UserInput
from tests.cast import Cast
from tests.integration.kamailio.registrar import KamailioRegistrar

STAFF = {"101": "Front desk", "102": "Workshop"}


@dataclass
class Furnished:
    """What was made, by the ids that addresses hold."""

    slug: str
    tenant: str
    domain: str
    registrar: str
    connection: str
    users: dict[str, str] = field(default_factory=dict)
    """Ids by extension."""
    passwords: dict[str, str] = field(default_factory=dict)
    """SIP passwords by extension."""
    number: str = ""
    rule: str = ""
    group: str = ""
    schedule: str = ""
    guard: str = ""

    def path(self, rest: str = "") -> str:
        return f"/t/{self.slug}/{rest}"


def furnish(cast: Cast, slug: str, pbx: KamailioRegistrar, secret: str, staff: Mapping[str, str] = STAFF) -> Furnished:
    """Give a tenant all of it, and publish. `secret` is the password of each account at the PBX."""
    with cast.app.app_context(), cast.scope(slug) as scope:
        registrar = f"{slug}.pbx.example"
        place = {"host": pbx.host, "port": pbx.port, "sources": f"{pbx.host}:{pbx.port}"}
        made = ConnectionInput(name="Office PBX", registrar_domain=registrar, **place)
        connection = connections.set_mode(scope, connections.create(scope, made), on=True)
        domain = scope.first(scope.select(Domain).where(col(Domain.is_primary)))
        assert domain is not None
        found = Furnished(slug, scope.tenant_id, domain.name, registrar, connection.id)
        for extension, name in staff.items():
            user = _user(scope, extension, name, AccountInput(connection.id, extension, "", secret))
            found.users[extension] = user.id
            found.passwords[extension] = users.password_of(user)
        first = next(iter(found.users.values()))
        found.number = numbers.create(scope, NumberInput(number="+49301234567", user_id=first)).id
        hours = ScheduleInput(name="Office", time_zone="Europe/Berlin", monday="09:00-17:00", holidays="2030-12-25")
        found.schedule = schedules.create(scope, hours).id
        team = GroupInput(extension="290", name="Everybody", members=list(staff), schedule_id=found.schedule)
        found.group = groups.create(scope, team).id
        rule = RuleInput(position=10, prefix="0", strip=1, prepend="+49", connection_id=connection.id)
        found.rule = numbers.create_rule(scope, rule).id
        limited = GuardInput(prefix="00870", calls_per_hour=3, schedule_id=found.schedule)
        found.guard = guards.create(scope, limited).id
        done = publishing.publish_tenant(scope, vault(), at_hand.config(), at_hand.delivery(), "")
        assert not done.refused, done
        assert not done.held, done
    return found


def _user(scope: TenantScope, extension: str, name: str, account: AccountInput) -> User:
    """Added, or changed where it is there already."""
    data = UserInput(extension=extension, name=name)
    there = scope.session.exec(select(User).where(User.tenant_id == scope.tenant_id, User.extension == extension))
    user = there.first()
    return users.update(scope, user, data, [account]) if user else users.create(scope, data, [account])

"""Checks of one tenant alone: everything that needs no other tenant."""

from __future__ import annotations

from sipd.routing.checks_caller_id import check_caller_id
from sipd.routing.checks_connection import check_connections
from sipd.routing.checks_group import check_groups
from sipd.routing.checks_guard import check_guards, check_installation_guards
from sipd.routing.checks_network import check_networks
from sipd.routing.checks_number import check_forwards, check_numbers
from sipd.routing.checks_outbound import check_outbound
from sipd.routing.checks_schedule import check_schedules
from sipd.routing.checks_scope import (
    Problems,
    Scope,
    TextChecks,
    check_limits,
    check_list,
    check_texts,
    reference_fault,
)
from sipd.routing.checks_text import domain_fault, host_fault, id_fault, name_fault, slug_fault
from sipd.routing.checks_user import check_users
from sipd.routing.model import Installation, Tenant
from sipd.routing.problem import Spot, show

TENANT_TEXTS: TextChecks = (("id", id_fault), ("slug", slug_fault), ("name", name_fault))


def problems_of(tenant: Tenant, installation: Installation, index: int) -> Problems:
    """All problems of one tenant; `index` is its place in the table."""
    scope = Scope(tenant, installation, index)
    yield from _check_tenant_itself(scope)
    yield from _check_domains(scope)
    yield from check_connections(scope)
    yield from check_users(scope)
    yield from check_groups(scope)
    yield from check_schedules(scope)
    yield from check_numbers(scope)
    yield from check_outbound(scope)
    yield from check_guards(scope)
    yield from check_forwards(scope)


def installation_problems(installation: Installation) -> Problems:
    """All problems of what belongs to no tenant."""
    spot = Spot("installation", collection="installation")
    fault = domain_fault(installation.platform_domain)
    if fault:
        yield spot.at("platform_domain").error(fault)
    yield from check_list(spot, "edge_hosts", installation.edge_hosts, host_fault)
    yield from check_limits(spot, installation.limits)
    yield from check_installation_guards(spot, installation.guards)
    yield from check_networks(spot, installation)


def _check_tenant_itself(scope: Scope) -> Problems:
    tenant, spot = scope.tenant, scope.spot
    yield from check_texts(spot, tenant, TENANT_TEXTS)
    yield from check_limits(spot, tenant.limits)
    if tenant.caller_id:
        yield from check_caller_id(spot, tenant.caller_id, scope)
    if tenant.default_connection:
        fault = reference_fault(tenant.default_connection, scope)
        if fault:
            yield spot.at("default_connection").error(fault)
        elif not scope.connections[tenant.default_connection].enabled:
            yield spot.at("default_connection").warning(
                "The default connection is disabled, so calls that no rule takes are refused. "
                "Enable it or choose another."
            )


def _check_domains(scope: Scope) -> Problems:
    fault = domain_fault(scope.tenant.primary_domain) or _edge_fault(scope.tenant.primary_domain, scope)
    if fault:
        yield scope.spot.at("primary_domain").error(fault)
    yield from check_list(
        scope.spot, "alias_domains", scope.tenant.alias_domains, lambda text: _alias_domain_fault(text, scope)
    )


def _alias_domain_fault(domain: str, scope: Scope) -> str:
    if domain == scope.tenant.primary_domain:
        return f"{show(domain)} is the primary domain already; remove it from the aliases."
    return domain_fault(domain) or _edge_fault(domain, scope)


def _edge_fault(domain: str, scope: Scope) -> str:
    if domain not in scope.edge_hosts:
        return ""
    what = "the platform's own domain" if domain == scope.installation.platform_domain else "a host of the edge itself"
    return f"{show(domain)} is {what} and names no tenant; choose another domain, such as one below it."

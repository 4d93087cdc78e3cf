"""Tests of the auth manager that reads the reverse proxy's identity. `cli/charts/tests/test_login_airflow.py` runs it in Airflow's API server."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.common.types import MenuItem

from dags.auth_manager import ProxyAuthManager, ProxyIdentity, User
from phaseflow.identity import Identity, Role

MANAGER = ProxyAuthManager()
VIEWER, OPERATOR, ADMIN = (User(role.name.lower(), role) for role in Role)
IDENTIFIED = [
    (b"x-phaseflow-identity", b"secret"),
    (b"x-phaseflow-user", b"vera"),
    (b"x-phaseflow-role", b"viewer"),
]


def roles(question: str, method: str, **details: Any) -> set[str]:
    """Names of the roles that may do something."""
    ask = getattr(MANAGER, f"is_authorized_{question}")
    return {user.name for user in (VIEWER, OPERATOR, ADMIN) if ask(method=method, user=user, **details)}


EVERYBODY, OPERATORS, ADMINS = {"viewer", "operator", "admin"}, {"operator", "admin"}, {"admin"}


@pytest.mark.parametrize("entity", [None, *DagAccessEntity])
def test_everybody_reads_a_dag_and_administrators_delete(entity: DagAccessEntity | None) -> None:
    assert roles("dag", "GET", access_entity=entity) == EVERYBODY
    assert roles("dag", "DELETE", access_entity=entity) == ADMINS


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_operators_run_a_dag_and_change_no_result(method: str) -> None:
    for entity in (None, DagAccessEntity.RUN, DagAccessEntity.TASK_INSTANCE, DagAccessEntity.HITL_DETAIL):
        assert roles("dag", method, access_entity=entity) == OPERATORS, entity
    assert roles("dag", method, access_entity=DagAccessEntity.XCOM) == ADMINS
    assert roles("asset", method) == OPERATORS


@pytest.mark.parametrize("question", ["connection", "variable", "configuration"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_what_may_hold_passwords_is_for_administrators(question: str, method: str) -> None:
    assert roles(question, method) == ADMINS
    hidden = {MenuItem.CONNECTIONS, MenuItem.VARIABLES, MenuItem.CONFIG}
    items = list(MenuItem)
    assert set(MANAGER.filter_authorized_menu_items(items, user=OPERATOR)) == set(items) - hidden
    assert MANAGER.filter_authorized_menu_items(items, user=ADMIN) == items


def test_pools_are_read_by_everybody() -> None:
    assert roles("pool", "GET") == EVERYBODY
    for method in ("POST", "PUT", "DELETE"):
        assert roles("pool", method) == ADMINS


def test_a_token_of_another_auth_manager_is_nobodys() -> None:
    assert MANAGER.deserialize_user(MANAGER.serialize_user(OPERATOR)).role is Role.OPERATOR
    with pytest.raises(KeyError):
        MANAGER.deserialize_user({"sub": "admin", "role": "ADMIN"})


def passed_on(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers that Airflow gets."""
    got: list[tuple[bytes, bytes]] = []

    async def airflow(scope: MutableMapping[str, Any], _receive: Any, _send: Any) -> None:
        got.extend(scope["headers"])

    def token(sender: Identity) -> str:
        return f"{sender.user}/{sender.role.name}"

    middleware = ProxyIdentity(airflow, token, "secret")
    asyncio.run(middleware({"type": "http", "headers": headers}, None, None))  # type: ignore[arg-type]  # neither is called
    return got


def test_an_identity_becomes_a_token_and_replaces_every_other() -> None:
    others = [(b"authorization", b"Bearer admin"), (b"cookie", b"_token=admin"), (b"accept", b"*/*")]
    assert passed_on([*others, *IDENTIFIED]) == [(b"accept", b"*/*"), (b"authorization", b"Bearer vera/VIEWER")]


def test_without_an_identity_the_headers_of_one_are_dropped() -> None:
    token = (b"authorization", b"Bearer x")
    assert passed_on([token, (b"x-phaseflow-identity", b"guess"), *IDENTIFIED[1:]]) == [token]

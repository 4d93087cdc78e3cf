"""Airflow's auth manager where the platform has one login: the reverse proxy says who asks and with which role.

`AIRFLOW__CORE__AUTH_MANAGER=dags.auth_manager.ProxyAuthManager`. It keeps no user and no session: each request of a person carries an identity of
the reverse proxy (`phaseflow.identity`), which becomes Airflow's own token for this request alone. Programs get a token for the password of the
user `admin`, as they do from Airflow's simple auth manager.
"""
# ruff: noqa: ARG002  # Airflow calls the methods with these arguments, also where the role alone decides

from __future__ import annotations

import functools
import hmac
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final

from airflow.api_fastapi.app import AUTH_MANAGER_FASTAPI_APP_PREFIX
from airflow.api_fastapi.auth.managers.base_auth_manager import BaseAuthManager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.common.types import MenuItem
from airflow.api_fastapi.core_api.security import is_safe_url
from airflow.configuration import conf
from fastapi import Body, FastAPI, HTTPException, Request
from fastapi.responses import RedirectResponse

from phaseflow import identity
from phaseflow.clients import airflow
from phaseflow.identity import Role
from phaseflow.settings import from_environment

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.base_auth_manager import ResourceMethod
    from starlette.types import ASGIApp, Receive, Scope, Send

OPERATED: Final = (None, DagAccessEntity.RUN, DagAccessEntity.TASK_INSTANCE, DagAccessEntity.HITL_DETAIL)
"""What an operator changes of a DAG: the DAG itself (pause), its runs, their tasks, and answers to them. XComs lead to a promotion."""
SECRET_MENUS: Final = frozenset({MenuItem.CONNECTIONS, MenuItem.VARIABLES, MenuItem.CONFIG})


class User(BaseUser):
    """Somebody with a role."""

    def __init__(self, name: str, role: Role) -> None:
        self.name, self.role = name, role

    def get_id(self) -> str:
        """The name, under which Airflow's audit log has what the user does."""
        return self.name

    def get_name(self) -> str:
        """The name that the page shows."""
        return self.name


class ProxyAuthManager(BaseAuthManager[User]):
    """Roles of the reverse proxy, as Airflow asks for them."""

    def deserialize_user(self, token: dict[str, Any]) -> User:
        """The user of a token. Raises KeyError if another auth manager has made the token."""
        return User(token["sub"], Role[token["phaseflow_role"]])

    def serialize_user(self, user: User) -> dict[str, Any]:
        """The claims of a user's token."""
        return {"sub": user.name, "phaseflow_role": user.role.name}

    def get_url_login(self, **_: Any) -> str:
        """The page that leads back: who arrives there has logged in at the reverse proxy."""
        return f"{AUTH_MANAGER_FASTAPI_APP_PREFIX}/login"

    def get_url_logout(self) -> str:
        """The reverse proxy's page, which ends the session of all pages."""
        return "/logout"

    def get_fastapi_middlewares(self) -> list[tuple[Any, dict[str, Any]]]:
        """The middleware that reads the identity."""
        return [(ProxyIdentity, {"token": self._token, "secret": _secret(identity.SECRET)})]

    def get_fastapi_app(self) -> FastAPI:
        """The pages below `/auth`."""
        app = FastAPI(title="Login by the reverse proxy")
        app.add_api_route("/login", _login, methods=["GET"])
        create = functools.partial(_create_token, self, _secret(airflow.SECRET))
        for path in ("/token", "/token/cli"):
            app.add_api_route(path, _route(create), methods=["POST"], status_code=201)
        return app

    def is_authorized_dag(
        self, *, method: ResourceMethod, user: User, access_entity: DagAccessEntity | None = None, details: Any = None
    ) -> bool:
        """Viewers read, operators start, clear and pause, administrators delete."""
        return _may(user, method, change=Role.OPERATOR if access_entity in OPERATED else Role.ADMIN)

    def is_authorized_asset(self, *, method: ResourceMethod, user: User, details: Any = None) -> bool:
        """An asset's event starts runs."""
        return _may(user, method, change=Role.OPERATOR)

    def is_authorized_asset_alias(self, *, method: ResourceMethod, user: User, details: Any = None) -> bool:
        """Viewers read."""
        return _may(user, method)

    def is_authorized_pool(self, *, method: ResourceMethod, user: User, details: Any = None) -> bool:
        """Viewers read."""
        return _may(user, method)

    def is_authorized_configuration(self, *, method: ResourceMethod, user: User, details: Any = None) -> bool:
        """The administrator's alone."""
        return user.role is Role.ADMIN

    def is_authorized_connection(self, *, method: ResourceMethod, user: User, details: Any = None) -> bool:
        """The administrator's alone: it holds passwords."""
        return user.role is Role.ADMIN

    def is_authorized_variable(self, *, method: ResourceMethod, user: User, details: Any = None) -> bool:
        """The administrator's alone: it may hold passwords."""
        return user.role is Role.ADMIN

    def is_authorized_view(self, *, access_view: Any, user: User) -> bool:
        """Every role reads."""
        return True

    def is_authorized_custom_view(self, *, method: ResourceMethod, resource_name: str, user: User) -> bool:
        """Viewers read."""
        return _may(user, method)

    def filter_authorized_menu_items(self, menu_items: list[MenuItem], *, user: User) -> list[MenuItem]:
        """What holds secrets is shown to administrators."""
        return [item for item in menu_items if user.role is Role.ADMIN or item not in SECRET_MENUS]

    def _token(self, sender: identity.Identity) -> str:
        return self.generate_jwt(User(sender.user, sender.role), expiration_time_in_seconds=60)


class ProxyIdentity:
    """ASGI middleware: a request with an identity of the reverse proxy gets Airflow's token of that user."""

    def __init__(self, app: ASGIApp, token: Callable[[identity.Identity], str], secret: str) -> None:
        self._app, self._token, self._secret = app, token, secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Replace the headers of the identity by a token."""
        if scope["type"] == "http":
            sender = identity.of(scope["headers"], self._secret)
            headers = [header for header in scope["headers"] if header[0] not in identity.HEADERS]
            if sender is not None:
                headers = [header for header in headers if header[0] not in (b"authorization", b"cookie")]
                headers.append((b"authorization", f"Bearer {self._token(sender)}".encode()))
            scope = {**scope, "headers": headers}
        await self._app(scope, receive, send)


def _may(user: User, method: ResourceMethod, change: Role = Role.ADMIN) -> bool:
    """Whether the user's role suffices: any to read, `change` to change, the administrator's to delete."""
    needed = {"GET": Role.VIEWER, "MENU": Role.VIEWER, "DELETE": Role.ADMIN}.get(str(method), change)
    return user.role >= needed


def _secret(name: str) -> str:
    return from_environment().secret(name)


def _login(request: Request, next: str | None = None) -> RedirectResponse:  # noqa: A002  # the name that Airflow's page uses
    """Lead back to the page that asked for a login."""
    if not request.headers.get("authorization", "").startswith("Bearer "):
        raise HTTPException(403, "Airflow does not know who you are. Open it under the address of the reverse proxy.")
    home: str = conf.get("api", "base_url", fallback="/")
    return RedirectResponse(next if next and is_safe_url(next, request=request) else home)


def _route(create: Callable[[str, str], str]) -> Callable[..., dict[str, str]]:
    def token(username: Annotated[str, Body()], password: Annotated[str, Body()]) -> dict[str, str]:
        """A token for the password of the user `admin`."""
        return {"access_token": create(username, password)}

    return token


def _create_token(manager: ProxyAuthManager, secret: str, username: str, password: str) -> str:
    if username != airflow.USER or not hmac.compare_digest(password.encode(), secret.encode()):
        raise HTTPException(401, "Invalid credentials")
    return manager.generate_jwt(User(username, Role.ADMIN))

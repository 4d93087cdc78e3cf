"""`python -m services.registry.schema URL [COMMAND …]`: MLflow's schema brought up to date, one process at a time; then the command.

MLflow's server refuses a database of an older version and upgrades none. Of several that start at once, one upgrades and the others wait,
also where the database is new. One that is killed leaves the old schema: Postgres undoes its transaction, and of SQLite's file a copy is
upgraded, which then takes its place.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import sqlalchemy
from sqlalchemy.engine import Engine

from phaseflow.errors import PhaseflowError, PlatformError
from phaseflow.store import Store

LOCK: Final = 0x6D6C666C6F77
"""The number of Postgres' advisory lock, which all that upgrade this database ask for."""
PATIENCE: Final = 600.0
"""Seconds that one waits for another's upgrade."""


def upgrade(url: str) -> bool:
    """Upgrade the database at SQLAlchemy's address `url`; whether anything was to be done.

    Raises PlatformError when another process upgrades it for longer than PATIENCE.
    """
    # No connection is kept: it would see the file that an upgraded one has replaced.
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    if engine.dialect.name == "sqlite" and not _file(engine).exists():
        return False  # its only server makes it
    try:
        if _is_current(engine):
            return False
        with _alone(engine):
            if _is_current(engine):  # another has upgraded it meanwhile
                return False
            print("upgrades the schema of MLflow's database", file=sys.stderr, flush=True)
            if engine.dialect.name == "sqlite":
                _upgrade_copy(_file(engine))
            else:
                _mlflow_upgrade(url)
            return True
    finally:
        engine.dispose()


def _mlflow_upgrade(url: str) -> None:
    """As `mlflow db upgrade`, which also makes the tables of an empty database."""
    from mlflow.db import upgrade as command  # noqa: PLC0415  # late: it takes seconds, and is needed once a version

    command.main([url], standalone_mode=False)


def _upgrade_copy(path: Path) -> None:
    """Upgrade a copy of SQLite's file, then put it in its place; no server has the file open."""
    copy = path.with_name(f".{path.name}.upgrade")
    copy.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as old, contextlib.closing(sqlite3.connect(copy)) as new:
        old.backup(new)
    _mlflow_upgrade(f"sqlite:///{copy}")
    with copy.open("rb") as file:
        os.fsync(file.fileno())
    copy.replace(path)


def _file(engine: Engine) -> Path:
    """SQLite's file."""
    return Path(engine.url.database or "")


def _is_current(engine: Engine) -> bool:
    """Whether the schema is the installed MLflow's; false for an empty database."""
    with engine.connect() as connection:
        if not sqlalchemy.inspect(connection).has_table("alembic_version"):
            return False
        revisions = set(connection.execute(sqlalchemy.text("SELECT version_num FROM alembic_version")).scalars())
    return revisions == _heads()


def _heads() -> set[str]:
    """The installed MLflow's latest revision, read from its migrations without importing them, which takes seconds."""
    spec = importlib.util.find_spec("mlflow")
    folders = spec.submodule_search_locations if spec else None
    if not folders:
        raise PlatformError("MLflow is not installed here", fix="Use the environment `registry`")
    migrations = Path(folders[0]) / "store" / "db_migrations" / "versions"
    revisions: set[str] = set()
    replaced: set[str] = set()
    for path in migrations.glob("*.py"):
        values = _assigned(path)
        if isinstance(revision := values.get("revision"), str):
            revisions.add(revision)
        before = values.get("down_revision")
        replaced.update([before] if isinstance(before, str) else before or ())
    return revisions - replaced


def _assigned(path: Path) -> dict[str, Any]:
    """The literal values of a module's variables."""
    values = {}
    for statement in ast.parse(path.read_bytes()).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                with contextlib.suppress(ValueError):
                    values[name] = ast.literal_eval(value)
    return values


@contextlib.contextmanager
def _alone(engine: Engine) -> Iterator[None]:
    """Hold the database's lock, which is free when its holder dies: Postgres' own, a file's beside SQLite's."""
    if engine.dialect.name == "sqlite":
        path = _file(engine)
        with Store(str(path.parent)).lock(f"{path.name}-schema", PATIENCE):
            yield
        return
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"SET lock_timeout = {PATIENCE * 1000:.0f}"))
        try:
            connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:number)"), {"number": LOCK})
        except sqlalchemy.exc.OperationalError as error:
            raise PlatformError(
                f"Another process has upgraded the schema of {engine.url.render_as_string()} for {PATIENCE:.0f} s",
                fix="Wait for it, or end it",
            ) from error
        connection.commit()  # no transaction is open meanwhile; the lock is the session's
        try:
            yield
        finally:
            connection.execute(sqlalchemy.text("SELECT pg_advisory_unlock(:number)"), {"number": LOCK})


def main(arguments: list[str]) -> int:
    """Upgrade, then become the command."""
    url, *command = arguments
    try:
        upgrade(url)
    except PhaseflowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if command:
        os.execvp(command[0], command)  # noqa: S606  # no shell is wanted
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

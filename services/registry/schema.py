"""`python -m services.registry.schema URL [COMMAND …]` upgrades the schema of MLflow's database, then runs the command.

MLflow's server refuses the schema of an older version and does not upgrade it. If several processes start at once, one of them upgrades
the database (or creates its tables) while the others wait. A process that is killed leaves the old schema: PostgreSQL rolls back its
transaction, and a SQLite file is replaced only by a completely upgraded copy.
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

from phaseflow import errors, log
from phaseflow.errors import PhaseflowError, PlatformError
from phaseflow.log import logger
from phaseflow.settings import from_environment
from phaseflow.store import Store

LOCK: Final = 0x6D6C666C6F77
"""Number of the PostgreSQL advisory lock that a process must hold to upgrade this database."""
PATIENCE: Final = 600.0
"""Seconds to wait for the upgrade of another process."""


def upgrade(url: str) -> bool:
    """Upgrade the database at SQLAlchemy's `url`; returns whether an upgrade was necessary.

    Raises PlatformError if another process takes longer than PATIENCE to upgrade it.
    """
    # No connection pool: a pooled connection would still see the SQLite file that the upgraded copy has replaced.
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    if engine.dialect.name == "sqlite" and not _file(engine).exists():
        return False  # MLflow's server creates it
    try:
        if _is_current(engine):
            return False
        with _alone(engine):
            if _is_current(engine):  # another process has upgraded it meanwhile
                return False
            logger.info("upgrading the schema of MLflow's database")
            if engine.dialect.name == "sqlite":
                _upgrade_copy(_file(engine))
            else:
                _mlflow_upgrade(url)
            return True
    finally:
        engine.dispose()


def _mlflow_upgrade(url: str) -> None:
    """Run `mlflow db upgrade`, which also creates the tables of an empty database."""
    from mlflow.db import upgrade as command  # noqa: PLC0415  # the import takes seconds, and is needed once per version

    command.main([url], standalone_mode=False)


def _upgrade_copy(path: Path) -> None:
    """Upgrade a copy of the SQLite file, then replace the file with it; no server has the file open."""
    copy = path.with_name(f".{path.name}.upgrade")
    copy.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as old, contextlib.closing(sqlite3.connect(copy)) as new:
        old.backup(new)
    _mlflow_upgrade(f"sqlite:///{copy}")
    with copy.open("rb") as file:
        os.fsync(file.fileno())
    copy.replace(path)


def _file(engine: Engine) -> Path:
    """Path of the SQLite file."""
    return Path(engine.url.database or "")


def _is_current(engine: Engine) -> bool:
    """Whether the schema is that of the installed MLflow; false for an empty database."""
    with engine.connect() as connection:
        if not sqlalchemy.inspect(connection).has_table("alembic_version"):
            return False
        revisions = set(connection.execute(sqlalchemy.text("SELECT version_num FROM alembic_version")).scalars())
    return revisions == _heads()


def _heads() -> set[str]:
    """The latest revisions of the installed MLflow, read from its migrations without importing them, which takes seconds."""
    spec = importlib.util.find_spec("mlflow")
    folders = spec.submodule_search_locations if spec else None
    if not folders:
        raise PlatformError("MLflow is not installed here", fix="Use the interpreter of the environment `registry`")
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
    """The module-level variables of a Python file that are assigned a literal."""
    values = {}
    for statement in ast.parse(path.read_bytes()).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                with contextlib.suppress(ValueError):
                    values[name] = ast.literal_eval(value)
    return values


@contextlib.contextmanager
def _alone(engine: Engine) -> Iterator[None]:
    """Hold the database's lock, which is released if the process dies: an advisory lock of PostgreSQL, or a lock file beside SQLite's."""
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
        connection.commit()  # the lock belongs to the session, so no transaction stays open meanwhile
        try:
            yield
        finally:
            connection.execute(sqlalchemy.text("SELECT pg_advisory_unlock(:number)"), {"number": LOCK})


def main(arguments: list[str]) -> int:
    """Upgrade the database, then replace this process by the command."""
    url, *command = arguments
    log.configure("registry.schema", from_environment().log_format)
    try:
        upgrade(url)
    except PhaseflowError as error:
        errors.report(error)
        return errors.TRANSIENT  # its supervisor starts it again
    if command:
        os.execvp(command[0], command)  # noqa: S606  # deliberately without a shell
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

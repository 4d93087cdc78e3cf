"""Files with an unsupported format are refused with the fix."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from phaseflow import PlatformError, formats
from phaseflow.store import Store
from services.backup import __main__ as backup


@pytest.mark.parametrize("version", [2, 0, "1", True, 1.0, [1]])
def test_an_unsupported_format_is_refused(version: object) -> None:
    with pytest.raises(PlatformError) as error:
        formats.require("The snapshot abc of titanic", version, 1)
    assert str(error.value) == (
        f"The snapshot abc of titanic has the format {version!r}; this release reads format 1. "
        "Use the release that wrote it or a newer one, or make it again with this one."
    )


@pytest.mark.parametrize("version", [1, None])
def test_a_missing_version_is_format_one(version: int | None) -> None:
    formats.require("The snapshot", version, 1)


def test_a_backup_of_another_format_is_not_restored(tmp_path: Path) -> None:
    source, target = Store(str(tmp_path / "store")), Store(str(tmp_path / "backups"))
    source.write("a", b"rows")
    name = backup.save(source, target, tmp_path, datetime(2026, 1, 2, tzinfo=UTC))["backup"]
    key = f"backups/{name}/manifest.json"
    manifest = json.loads(target.read(key))
    assert manifest["format"] == formats.BACKUP
    target.write(key, json.dumps(manifest | {"format": 2}).encode())
    with pytest.raises(PlatformError, match=f"The backup {name} in .* has the format 2; this release reads format 1"):
        backup.restore(source, target, tmp_path / "dumps", name)

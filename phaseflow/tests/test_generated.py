"""Files that are out of date are named."""

from __future__ import annotations

from pathlib import Path

from phaseflow.generated import stale


def test_stale_files_are_missing_different_or_left_over(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("same", "sub/different", "left over"):
        (tmp_path / name).write_text(name)
    expected = {"same": "same", "sub/different": "new", "missing": "", "also/missing": "x"}
    assert stale(tmp_path, expected) == ["also/missing", "left over", "missing", "sub/different"]
    assert stale(tmp_path, expected, whole=False) == ["also/missing", "missing", "sub/different"]

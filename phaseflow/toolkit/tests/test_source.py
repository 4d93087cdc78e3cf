"""Sources of several files, non-scalar columns, and groups."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import polars as pl
import pytest

from phaseflow import Column, DataError, File, Schema, Source, discovery
from phaseflow.contract import Project
from phaseflow.settings import Settings, from_environment
from phaseflow.store import Store
from phaseflow.toolkit import client, source

IMAGES = discovery.get("from_scratch")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    return from_environment(
        {"PHASEFLOW_HOME": str(tmp_path), "PHASEFLOW_OFFLINE": "0", "PHASEFLOW_DATA_MIRROR": str(mirror)}
    )


def two_files(tmp_path: Path, second: bytes = b"5\n6\n") -> Project:
    """A project whose source is two files, read line by line into two columns."""
    files = []
    for name, content in (("left", b"1\n2\n"), ("right", second)):
        (tmp_path / name).write_bytes(content)
        files.append((name, hashlib.sha256(content).hexdigest()))
    (left, first), (right, other) = files
    return dataclasses.replace(
        IMAGES,
        source=Source(
            url=f"file://{tmp_path / left}",
            mirror=left,
            sha256=first,
            more=(File(url=f"file://{tmp_path / right}", mirror=right, sha256=other),),
            sample="from_scratch.data:sample",
            read="from_scratch.data:read",
            minimum_rows=1,
        ),
    )


def unchecked(project: Project) -> Project:
    """The project without checksums, so that any content of the mirror is valid."""
    more = tuple(dataclasses.replace(file, sha256="") for file in project.source.more)
    return dataclasses.replace(project, source=dataclasses.replace(project.source, sha256="", more=more))


def beside(left: bytes, right: bytes) -> pl.DataFrame:
    return pl.DataFrame({"left": left.decode().split(), "right": right.decode().split()})


def pair(seed: int) -> tuple[bytes, bytes]:
    return f"{seed}\n".encode(), b"0\n"


@pytest.fixture(autouse=True)
def code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace two functions of the project by those of this file."""
    real = discovery.load
    own = {"from_scratch.data:read": beside, "from_scratch.data:sample": pair}
    monkeypatch.setattr(discovery, "load", lambda reference: own.get(reference) or real(reference))


def test_all_files_have_the_same_origin(settings: Settings, tmp_path: Path) -> None:
    project, store = two_files(tmp_path), Store(settings.store)
    assert settings.data_mirror is not None
    (settings.data_mirror / "left").write_bytes(b"9\n9\n")
    loaded = source.load(project, settings, store)
    assert loaded.origin == "sample"  # the mirror is incomplete, and httpx can't read file URLs
    (settings.data_mirror / "right").write_bytes(b"8\n8\n")
    loaded = source.load(unchecked(project), settings, store)
    assert (loaded.origin, loaded.frame.rows()) == ("mirror", [("9", "8"), ("9", "8")])


def test_a_file_of_the_mirror_is_held_against_its_checksum(settings: Settings, tmp_path: Path) -> None:
    project, store = two_files(tmp_path), Store(settings.store)
    assert settings.data_mirror is not None
    (settings.data_mirror / "left").write_bytes(b"1\n2\n")
    (settings.data_mirror / "right").write_bytes(b"5\n7\n")
    with pytest.raises(DataError) as caught:
        source.load(project, settings, store)
    digest = hashlib.sha256(b"5\n7\n").hexdigest()
    assert str(caught.value) == (
        f"{settings.data_mirror}/right has SHA-256 {digest}; the source of from_scratch says "
        f"{project.source.more[0].sha256}. Put the file with that checksum there; if this one is right, name its checksum in "
        "Source.mirror_sha256 of the project."
    )
    other = dataclasses.replace(project.source.more[0], mirror_sha256=(digest,))
    allowed = dataclasses.replace(project, source=dataclasses.replace(project.source, more=(other,)))
    loaded = source.load(allowed, settings, store)
    assert (loaded.origin, loaded.frame.rows()) == ("mirror", [("1", "5"), ("2", "7")])


def test_the_digest_covers_every_file(settings: Settings, tmp_path: Path) -> None:
    assert settings.data_mirror is not None
    digests = []
    for second in (b"8\n8\n", b"8\n7\n"):
        for name, content in (("left", b"9\n9\n"), ("right", second)):
            (settings.data_mirror / name).write_bytes(content)
        digests.append(source.load(unchecked(two_files(tmp_path)), settings, Store(settings.store)).sha256)
    assert digests[0] != digests[1]


def test_downloaded_files_are_cached_by_checksum(settings: Settings, tmp_path: Path) -> None:
    project, store = two_files(tmp_path), Store(settings.store)
    for file in project.source.files:
        store.write(f"sources/{project.name}/{file.sha256}", (tmp_path / file.mirror).read_bytes())
    loaded = source.load(project, settings, store)
    assert (loaded.origin, loaded.frame.rows()) == ("cache", [("1", "5"), ("2", "6")])


def test_an_image_of_another_size_is_null() -> None:
    schema = Schema(features=(Column(name="photo", kind="image", shape=(2, 2, 1)),))
    rows = pl.DataFrame({"photo": [b"1234", b"12345", None]}, schema={"photo": pl.Binary})
    assert source.conform(rows, schema)["photo"].to_list() == [b"1234", None, None]


def test_rows_are_sent_like_a_client_request() -> None:
    schema = Schema(features=(Column(name="photo", kind="image", shape=(1, 1, 1)), Column(name="n", kind="integer")))
    rows = pl.DataFrame({"photo": [b"\xff"], "n": [3], "label": ["x"]})
    (record,) = client.sent(rows, schema)
    assert record["n"] == 3
    assert record["photo"].startswith("iVBOR")
    assert record.keys() == {"photo", "n"}


def test_a_truncated_source_is_an_error(settings: Settings, tmp_path: Path) -> None:
    project = unchecked(two_files(tmp_path))
    assert settings.data_mirror is not None
    (settings.data_mirror / "left").write_bytes(b"")
    (settings.data_mirror / "right").write_bytes(b"")
    with pytest.raises(DataError, match=r"The mirror of from_scratch holds 0 rows; allowed: 1 or more"):
        source.load(project, settings, Store(settings.store))


def by_ticket(**changes: object) -> tuple[Project, pl.DataFrame]:
    """The Titanic project with changes, and its raw sample."""
    project = dataclasses.replace(discovery.get("titanic"), **changes)
    return project, source.read_csv(discovery.load(project.source.sample)(1))


def test_a_column_of_the_source_defines_the_group_and_is_dropped() -> None:
    project, raw = by_ticket()
    tickets = raw.with_columns(pl.Series("Ticket", [None, "  A/5 1", "a/5  1", "A/51"] + ["x"] * (raw.height - 4)))
    groups = source.transformed(tickets, project)["_group"]
    assert groups[0] is None
    assert groups[1] == groups[2] == hashlib.sha256(b"a/5 1").hexdigest()
    assert groups[3] != groups[1]
    loaded = source.Loaded(frame=tickets, origin="sample", sha256="")
    rows = source.rows(loaded, project)
    assert rows.columns == [column.name for column in project.schema.columns]
    grouped = source.grouped_rows(loaded, project, from_environment({}))
    assert grouped.columns == [*rows.columns, "_group", "_key"]
    assert grouped["_group"][0] == grouped["_key"][0]


def test_an_unknown_group_column_gets_a_suggestion() -> None:
    project, raw = by_ticket(group="Tickets")
    with pytest.raises(DataError) as caught:
        source.transformed(raw, project)
    assert str(caught.value).startswith(
        "Neither the source of titanic nor titanic.data:transform has the column 'Tickets' of Project.group; found: PassengerId, "
    )
    assert str(caught.value).endswith('Did you mean "Ticket"?')


def test_a_transform_that_drops_rows_must_return_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    project, raw = by_ticket()
    whole = discovery.load(project.transform)
    monkeypatch.setattr("projects.titanic.data.transform", lambda frame: whole(frame).head(5))
    with pytest.raises(DataError) as caught:
        source.transformed(raw, project)
    assert str(caught.value) == (
        "titanic.data:transform turns 891 rows into 5, so the column 'Ticket' of Project.group no longer matches them. "
        "Return the column 'Ticket' from it."
    )
    monkeypatch.setattr(
        "projects.titanic.data.transform", lambda frame: frame.select("Ticket", *whole(frame).iter_columns()).head(5)
    )
    assert source.transformed(raw, project)["_group"].len() == 5

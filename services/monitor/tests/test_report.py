"""A report with hostile values of clients, and labels that were sent twice."""

from __future__ import annotations

import gzip
import json
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import polars as pl
import pytest
from starlette.testclient import TestClient

from phaseflow import logs
from phaseflow.store import Store
from services.monitor import report
from services.monitor.app import application
from services.monitor.tests.test_monitor import TITANIC, Monitor, logged

HOSTILE = "</script><script>document.title='run'</script><!--"
NOW = datetime.now(UTC)


class Scripts(HTMLParser):
    """A page's scripts, and the rest of its text, as a browser splits them."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.other = ""
        self._within = False

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._within = tag == "script"
        if self._within:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._within = self._within and tag != "script"

    def handle_data(self, data: str) -> None:
        if self._within:
            self.scripts[-1] += data
        else:
            self.other += data


def write(store: Store, key: str, frame: pl.DataFrame) -> None:
    path = store.path(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(path)


def test_what_clients_sent_ends_no_script_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHASEFLOW_HOME", str(tmp_path))
    settings = report.from_environment()
    store = Store(settings.store)
    logged(cast("Monitor", SimpleNamespace(store=store)), 60.0)
    (key,) = (key for key in store.keys("predictions") if key.endswith(".parquet"))
    predictions = pl.read_parquet(store.path(key))
    third = pl.int_range(pl.len()) % 3 == 0
    hostile = [pl.when(third).then(pl.lit(HOSTILE)).otherwise(pl.col(name)).alias(name) for name in ("deck", "title")]
    predictions.with_columns(hostile).write_parquet(store.path(key))

    summary = report.make(TITANIC, "s1")
    page = gzip.decompress(store.read(f"reports/titanic/{summary['window']}/report.html.gz")).decode()
    assert "document.title=" in page  # the value is on the page, but begins no tag
    assert not re.search(r"(?i)<[/!]?[a-z-]*>?\s*document.title=", page)
    assert HOSTILE not in page
    parsed = Scripts()
    parsed.feed(page)
    assert [text for text in parsed.scripts if "document.title=" in text]
    assert not [text for text in parsed.scripts if text.startswith("document.title=")]
    assert "document.title=" not in parsed.other
    assert HOSTILE not in json.dumps(summary)
    assert "age" in summary["drifted"]
    assert "deck" in summary["drifted"]

    with TestClient(application(settings), base_url="http://127.0.0.1") as client:
        page_response = client.get(f"/reports/titanic/{summary['window']}/report.html")
        data_response = client.get(f"/reports/titanic/{summary['window']}/report.json")
    assert page_response.text == page
    assert page_response.headers["content-type"] == "text/html; charset=utf-8"
    assert data_response.json()["window"] == summary["window"]
    for response in (page_response, data_response):
        policy = response.headers["content-security-policy"].split("; ")
        assert {
            "default-src 'none'",
            "sandbox allow-scripts",
            "form-action 'none'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        } <= set(policy)
        assert response.headers["x-content-type-options"] == "nosniff"


def test_the_later_of_two_labels_counts_whatever_the_file_names(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    part = f"feedback/titanic/date={NOW:%Y-%m-%d}/hour={NOW:%H}"

    def label(value: str, age: float) -> pl.DataFrame:
        rows: dict[str, Any] = {"id": ["a"], "time": [NOW - timedelta(seconds=age)], "label": [value]}
        return pl.DataFrame(rows)

    write(store, f"{part}/a.parquet", label("new", 1))
    write(store, f"{part}/b.parquet", label("old", 2))
    ids = pl.Series("id", ["a"])
    assert logs.labels_of(store, "titanic", ids, NOW - timedelta(hours=1), NOW)["label"].to_list() == ["new"]

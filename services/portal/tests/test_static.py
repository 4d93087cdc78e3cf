"""The files that the browser loads: the vendored library is the one that is recorded, and the style sheet keeps texts readable."""

from __future__ import annotations

import hashlib
import re
import tomllib

import pytest

from services.portal.app import HERE

STATIC = HERE / "static"
CSS = (STATIC / "portal.css").read_text()


def test_the_vendored_library_is_the_recorded_version() -> None:
    record = tomllib.loads((STATIC / "uplot" / "vendored.toml").read_text())
    files = {path.name for path in (STATIC / "uplot").iterdir()} - {"vendored.toml"}
    assert files == set(record["sha256"])
    for name, digest in record["sha256"].items():
        assert hashlib.sha256((STATIC / "uplot" / name).read_bytes()).hexdigest() == digest, name
    assert f"uPlot (v{record['version']})" in (STATIC / "uplot" / "uPlot.iife.min.js").read_text()[:200]
    assert record["license"] == "MIT"
    assert "The MIT License" in (STATIC / "uplot" / "LICENSE").read_text()


def test_no_script_or_style_names_another_host() -> None:
    for path in (*STATIC.glob("*.js"), *STATIC.glob("*.css"), *STATIC.glob("uplot/*.css")):
        assert not re.search(r"(url\(|import|fetch\()\s*[\"']?https?:", path.read_text()), path.name


def test_a_long_word_breaks_instead_of_leaving_its_box() -> None:
    assert "overflow-wrap: anywhere" in re.search(r"^body \{[^}]+\}", CSS, re.MULTILINE)[0]
    # Only short numbers, and cells of tables that scroll, may stay on one line.
    unbroken = re.findall(r"^([^{}]+)\{[^}]*white-space: nowrap", CSS, re.MULTILINE)
    assert [selector.strip() for selector in unbroken] == [".plot th, .plot td", ".bars b"]


def luminance(colour: str) -> float:
    """The relative luminance of `#rrggbb`: https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(colour: str, background: str) -> float:
    low, high = sorted((luminance(colour), luminance(background)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_are_readable(scheme: str) -> None:
    light, dark = re.findall(r":root \{([^}]+)\}", CSS)[:2]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light if scheme == "light" else dark))
    for name in ("ink", "soft", "bad"):  # texts: WCAG 2.2, 1.4.3
        assert contrast(colours[name], colours["card"]) >= 4.5, name
        assert contrast(colours[name], colours["paper"]) >= 4.5, name
    for name in (*(f"c{n}" for n in range(8)), "ok", "active", "warn"):  # lines and dots: WCAG 2.2, 1.4.11
        assert contrast(colours[name], colours["card"]) >= 3, name


def test_motion_stops_for_readers_who_ask_for_it() -> None:
    animated = re.findall(r"\.(\w+)(?:\.moving)? \{[^}]*animation: ", CSS.split("@media (prefers-reduced-motion")[0])
    reduced = re.search(r"@media \(prefers-reduced-motion: reduce\) \{ ([^{]+)\{ animation: none !important", CSS)[1]
    assert animated
    assert {f".{name}" for name in animated} == {selector.strip() for selector in reduced.split(",")}
    assert "transition" not in CSS

"""Plots in one style, drawn without a display.

Matplotlib is imported by the functions that draw: its import takes as long as the training of a small model.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE: Final = "#3b6ea8"
GREY: Final = "#9aa3ad"

_drawing: ContextVar[bool] = ContextVar("drawing", default=True)


class _Blank:
    """A figure that accepts every call and draws nothing."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __getitem__(self, key: object) -> Any:
        return self

    def __call__(self, *_arguments: object, **_options: object) -> Any:
        return self


@contextlib.contextmanager
def undrawn() -> Iterator[None]:
    """Disable drawing: figures accept every call, and `png` returns b"".

    Plots take half the training time of a small model.
    """
    before = _drawing.set(False)
    try:
        yield
    finally:
        _drawing.reset(before)


def blank(size: tuple[float, float]) -> Figure:
    """An empty figure of `size` inches. It needs no display, and pyplot keeps no reference to it."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # see the module's docstring

    return Figure(figsize=size, layout="constrained")


def axes(title: str, x: str, y: str, size: tuple[float, float] = (5.2, 4.2)) -> tuple[Figure, Any]:
    """A figure of `size` inches with one pair of labelled axes."""
    if not _drawing.get():
        return _Blank(), _Blank()  # type: ignore[return-value]  # it stands for a figure
    figure = blank(size)
    panel = figure.subplots()
    panel.set(title=title, xlabel=x, ylabel=y)
    panel.spines[["top", "right"]].set_visible(False)
    return figure, panel


def grid(down: int, across: int, size: tuple[float, float]) -> tuple[Figure, list[Any]]:
    """A figure of `size` inches with `down` x `across` panels without axes, in row order."""
    if not _drawing.get():
        return _Blank(), [_Blank()] * (down * across)  # type: ignore[return-value]  # it stands for a figure
    figure = blank(size)
    panels = figure.subplots(down, across, squeeze=False)
    for panel in panels.flat:
        panel.axis("off")
    return figure, list(panels.flat)


def curve(title: str, x: str, y: str, lines: dict[str, list[float]]) -> bytes:
    """A line plot (PNG) of values by step, counted from 1, with one line per name; the y axis starts at 0."""
    figure, panel = axes(title, x, y, (5.2, 3.2))
    for name, values in lines.items():
        panel.plot(range(1, len(values) + 1), values, label=name)
    panel.set_ylim(0, None)
    if len(lines) > 1:
        panel.legend(frameon=False)
    return png(figure)


def png(figure: Figure, dpi: int = 90) -> bytes:
    """The figure as a PNG file."""
    if not _drawing.get():
        return b""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dpi)
    return content.getvalue()

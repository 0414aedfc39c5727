"""The chart of the README: how many times the floor's time each contestant takes."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import log10
from typing import Protocol

SHOWN = ("get_by_name", "save", "get_all of 100", "get_all of 10,000", "save_many of 10,000", "cold start, 100 plugins")
COLOURS = {"plugin_store": "#1f6f4a", "obvious": "#7a9ccf", "core": "#d9a441", "orm": "#c4623f"}
NAMES = {
    "plugin_store": "plugin_store",
    "obvious": "psycopg, the obvious way",
    "core": "SQLAlchemy Core",
    "orm": "SQLAlchemy ORM",
}
LEFT, WIDTH, BAR, GAP, TOP = 190, 600, 13, 16, 64
LOWEST, HIGHEST = 0.5, 100.0


class Figure(Protocol):
    """What is drawn of a figure."""

    what: str
    who: str
    ratio: float | None


def draw(figures: Sequence[Figure], machine: str) -> str:
    """Return an SVG: bars on a logarithmic scale, from the floor's line at 1."""
    bars, y = [], TOP
    for what in SHOWN:
        shown = [figure for figure in figures if figure.what == what and _who(figure) in COLOURS]
        if shown:
            bars.append(_text(LEFT - 12, y + len(shown) * BAR / 2 + 4, what, ' text-anchor="end"'))
        for figure in shown:
            assert figure.ratio is not None
            start, end = sorted((_x(1), _x(figure.ratio)))
            size = f'width="{max(end - start, 1):.1f}" height="{BAR - 2}"'
            bars.append(f'<rect x="{start:.1f}" y="{y}" {size} fill="{COLOURS[_who(figure)]}"/>')
            bars.append(_text(end + 5, y + BAR - 3, f"{figure.ratio:.2f}", ' class="small"'))
            y += BAR
        y += GAP if shown else 0
    scale = []
    for at in (1, 2, 5, 10, 20, 50):
        colour = "#333" if at == 1 else "#ddd"
        scale.append(f'<line x1="{_x(at):.1f}" y1="{TOP - 8}" x2="{_x(at):.1f}" y2="{y}" stroke="{colour}"/>')
        scale.append(_text(_x(at), y + 14, str(at), ' class="small" text-anchor="middle"'))
    key = []
    for number, (who, name) in enumerate(NAMES.items()):
        x = LEFT + number * 170
        key.append(f'<rect x="{x}" y="34" width="10" height="10" fill="{COLOURS[who]}"/>')
        key.append(_text(x + 15, 43, name, ' class="small"'))
    title = "Time, as a multiple of hand-written psycopg on a held connection"
    versions = machine.splitlines()[-1].partition(", plugin_store")[0]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 60} {y + 40}" role="img">',
            f"<title>{title}</title>",
            "<style>text { font: 13px system-ui, sans-serif; fill: #222 } .small { font-size: 11px }</style>",
            '<rect width="100%" height="100%" fill="#fff"/>',
            _text(LEFT, 20, title),
            *key,
            *scale,
            *bars,
            _text(LEFT, y + 32, f"{versions}; logarithmic scale, shorter is better", ' class="small"'),
            "</svg>\n",
        ]
    )


def _who(figure: Figure) -> str:
    return figure.who.partition(" ")[0]


def _text(x: float, y: float, text: str, attributes: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}"{attributes}>{escape(text)}</text>'


def _x(value: float) -> float:
    return LEFT + WIDTH * log10(max(value, LOWEST) / LOWEST) / log10(HIGHEST / LOWEST)

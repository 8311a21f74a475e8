"""What a report is built of: sections with figures, tables, and data that the page's script draws."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from markupsafe import Markup

from scmodal.contracts import MODALITY_TITLES


@dataclass
class Figure:
    """One picture or table with its title, what it is, and what a good and a bad one look like."""

    body: Markup
    title: str
    caption: str
    good: str
    bad: str


@dataclass
class Section:
    """A chapter of the report; without figures its lead says why there is nothing to see."""

    key: str
    title: str
    lead: str = ""
    figures: list[Figure] = field(default_factory=list)
    body: Markup = field(default_factory=Markup)


def direction_title(source: str, target: str) -> str:
    """``RNA → protein``."""
    return f"{MODALITY_TITLES.get(source, source)} → {MODALITY_TITLES.get(target, target)}"


def capital(text: str) -> str:
    """First letter large, the rest as it is."""
    return text[:1].upper() + text[1:]


def join_words(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def data_island(name: str, content: Mapping[str, Any]) -> Markup:
    """JSON for the page's script.

    Nothing in it can end the element or start another: ``<``, ``>`` and ``&`` are written as escapes, which JSON
    allows only within strings, where alone they can occur.
    """
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup('<script type="application/json" id="{}">{}</script>').format(f"data-{name}", Markup(text))


def packed(values: np.ndarray) -> str:
    """Numbers as base64 of little-endian unsigned 16-bit integers."""
    return base64.b64encode(np.ascontiguousarray(values).astype("<u2").tobytes()).decode("ascii")


def quantised(values: np.ndarray) -> tuple[str, list[float]]:
    """Values as 16-bit steps between their least and greatest, far finer than a pixel, and those two ends."""
    low, high = float(np.min(values)), float(np.max(values))
    scale = 65535.0 / (high - low) if high > low else 0.0
    return packed(np.rint((np.asarray(values, dtype=float) - low) * scale)), [low, high]


def grouping(codes: np.ndarray, colours: Mapping[str, str]) -> dict[str, Any]:
    """A colouring of points: names, their colours, and the number of the name of each point."""
    return {"names": list(colours), "colours": list(colours.values()), "codes": packed(codes)}


def scatter(source: str, colour: str, describe: str, *, x_label: str, y_label: str, series: str = "") -> Markup:
    """Place where the page's script draws the points of a data island."""
    return Markup(
        '<div class="scatter" data-source="{}" data-colour="{}" data-series="{}" data-x="{}" data-y="{}">'
        '<canvas role="img" aria-label="{}"></canvas></div>'
    ).format(source, colour, series, x_label, y_label, describe)


def legend(source: str, colour: str, colours: Mapping[str, str], counts: Mapping[str, int]) -> Markup:
    """Names with their colours; a click hides or shows the points of one."""
    items = Markup("").join(
        Markup(
            '<li><button type="button" aria-pressed="true" data-code="{}"><i style="background:{}"></i>'
            "<span>{}</span> <small>{}</small></button></li>"
        ).format(code, shade, name, f"{counts.get(name, 0):,}")
        for code, (name, shade) in enumerate(colours.items())
    )
    return Markup('<ul class="legend" data-source="{}" data-colour="{}">{}</ul>').format(source, colour, items)


def plain_legend(colours: Mapping[str, str]) -> Markup:
    """Names with their colours, nothing to click."""
    items = Markup("").join(
        Markup('<li><i style="background:{}"></i><span>{}</span></li>').format(shade, name)
        for name, shade in colours.items()
    )
    return Markup('<ul class="legend plain">{}</ul>').format(items)


def table(
    header: Sequence[str], rows: Iterable[Sequence[Any]], *, numeric: Sequence[int] = (), kind: str = ""
) -> Markup:
    """HTML table; `numeric` columns are set to the right."""
    right = set(numeric)

    def cells(tag: str, row: Sequence[Any]) -> Markup:
        return Markup("").join(
            Markup("<{0}{1}>{2}</{0}>").format(Markup(tag), Markup(' class="n"') if i in right else "", value)
            for i, value in enumerate(row)
        )

    body = Markup("\n").join(Markup("<tr>{}</tr>").format(cells("td", row)) for row in rows)
    return Markup(
        '<div class="overflow"><table class="{}"><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>'
    ).format(kind, cells("th", header), body)


def multiples(panels: Iterable[tuple[str, Markup, str]]) -> Markup:
    """Small pictures of one kind in a grid, each under its own title and above its own note."""
    inside = Markup("").join(
        Markup('<div class="panel"><h4>{}</h4>{}{}</div>').format(
            title, picture, Markup("<p>{}</p>").format(note) if note else ""
        )
        for title, picture, note in panels
    )
    return Markup('<div class="multiples">{}</div>').format(inside)


def side_by_side(panels: Iterable[tuple[str, Markup]], *, wide: bool = False) -> Markup:
    """Two or more larger pictures beside each other, or (`wide`) below each other."""
    inside = Markup("").join(Markup("<div><h4>{}</h4>{}</div>").format(title, body) for title, body in panels)
    return Markup('<div class="pair{}">{}</div>').format(" wide" if wide else "", inside)

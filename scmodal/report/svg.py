"""Small charts as inline SVG: they need no script, print sharply and take their colours from the page's style sheet.

Only what the report uses: axes with round ticks, curves with a band, histograms, ranked dots. All text is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

WIDTH, HEIGHT = 300.0, 190.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 10.0, 10.0, 34.0


@dataclass
class Axis:
    """Maps values to positions, linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def around(cls, values: Sequence[float], start: float, end: float, *, log: bool = False, pad: float = 0.04) -> Axis:
        """Axis that holds all values with some room at either end."""
        finite = [v for v in values if math.isfinite(v) and (v > 0 or not log)] or [1.0]
        low, high = min(finite), max(finite)
        if log:
            low, high = math.log10(low), math.log10(high)
        room = (high - low) * pad or abs(high) * 0.1 or 0.5
        low, high = low - room, high + room
        return cls(10**low, 10**high, start, end, True) if log else cls(low, high, start, end)

    def at(self, value: float) -> float:
        """Position of a value, clipped to the axis."""
        low, high, value = (
            (math.log10(self.low), math.log10(self.high), math.log10(max(value, 1e-300)))
            if self.log
            else (self.low, self.high, value)
        )
        share = min(1.0, max(0.0, (value - low) / (high - low)))
        return self.start + share * (self.end - self.start)

    def ticks(self, wanted: int = 4) -> list[float]:
        """Round numbers on the axis."""
        if self.log:
            found = [m * 10.0**e for e in range(-12, 13) for m in (1, 2, 5)]
            found = [t for t in found if self.low <= t <= self.high]
            while len(found) > wanted + 2:
                decades = [t for t in found if abs(math.log10(t) - round(math.log10(t))) < 1e-9]
                found = decades if len(decades) >= 2 and len(decades) < len(found) else found[::2]
            if len(found) >= 2:
                return found
        step = _round_step((self.high - self.low) / wanted)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [k * step for k in range(first, last + 1) if not self.log or k > 0]


def _round_step(raw: float) -> float:
    """Smallest of 1, 2, 2.5, 5 times a power of ten that is not below `raw`."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * (1 - 1e-9))


def number(value: float) -> str:
    """Short text of a number: ``1,200``, ``0.25``, ``−3``, ``3e-5``."""
    if value < 0:
        return f"−{number(-value)}"
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:.6g}" if float(value).is_integer() else f"{value:.3g}"


@dataclass
class Curve:
    """A line with an optional band between `low` and `high`."""

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    colour: str = "var(--accent)"
    name: str = ""


def curves(
    lines: Sequence[Curve],
    *,
    x_label: str,
    y_label: str = "",
    log: bool = False,
    reference: float | None = None,
    reference_text: str = "",
    from_zero: bool = False,
    describe: str = "",
) -> Markup:
    """Line chart.

    Parameters
    ----------
    lines
        Curves, all on the same axes.
    x_label, y_label
        Axis titles.
    log
        Logarithmic y axis.
    reference, reference_text
        Dashed horizontal line and its name.
    from_zero
        The y axis starts at 0.
    describe
        What the picture shows, for readers who do not see it.
    """
    xs = [v for c in lines for v in c.x]
    ys = [v for c in lines for v in (*c.y, *c.low, *c.high)]
    ys += [reference] if reference is not None else []
    ys += [0.0] if from_zero and not log else []
    x = Axis.around(xs, LEFT, WIDTH - RIGHT, pad=0.0)
    y = Axis.around(ys, HEIGHT - BOTTOM, TOP, log=log)
    if from_zero and not log:
        y.low, y.high = 0.0, 1.12 * max(ys)
    parts = [_frame(x, y, x_label, y_label)]
    for c in lines:
        if len(c.low):
            there = [(x.at(a), y.at(b)) for a, b in zip(c.x, c.high)]
            back = [(x.at(a), y.at(b)) for a, b in zip(c.x, c.low)][::-1]
            parts.append(Markup('<path class="band" d="{}Z" style="fill:{}"/>').format(_path(there + back), c.colour))
    for c in lines:
        line = _path([(x.at(a), y.at(b)) for a, b in zip(c.x, c.y)])
        title = Markup("<title>{}</title>").format(c.name) if c.name else ""
        parts.append(Markup('<path class="line" d="{}" style="stroke:{}">{}</path>').format(line, c.colour, title))
    if reference is not None:
        at = y.at(reference)
        parts.append(
            Markup('<line class="reference" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>').format(
                x.start, x.end, at, at
            )
        )
        if reference_text:
            parts.append(_text(x.end - 2, at - 4, reference_text, "end", "note"))
    return _svg(parts, describe)


def histogram(
    groups: Sequence[tuple[str, np.ndarray, str]],
    *,
    x_label: str,
    bins: int = 30,
    limits: tuple[float, float] | None = None,
    describe: str = "",
) -> Markup:
    """Outlined histograms of one or several groups on the same bins, each as a share of its cells.

    Parameters
    ----------
    groups
        (name, values, colour); values that are not finite are left out.
    x_label
        Title of the value axis.
    bins
        Number of bins.
    limits
        Ends of the value axis, by default the smallest and largest value.
    describe
        What the picture shows, for readers who do not see it.
    """
    clean = [(n, v[np.isfinite(v)], c) for n, v, c in groups]
    values = np.concatenate([v for _, v, _ in clean])
    low, high = limits if limits else (float(values.min()), float(values.max()))
    if high <= low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, bins + 1)
    shares = [np.histogram(v, edges)[0] / max(1, len(v)) * 100 for _, v, _ in clean]
    x = Axis(low, high, LEFT, WIDTH - RIGHT)
    y = Axis(0.0, max(float(s.max()) for s in shares) * 1.06 or 1.0, HEIGHT - BOTTOM, TOP)
    parts = [_frame(x, y, x_label, "% of cells")]
    for (name, _, colour), share in zip(clean, shares):
        corners = [(x.at(edges[0]), y.at(0))]
        for i, s in enumerate(share):
            corners += [(x.at(edges[i]), y.at(s)), (x.at(edges[i + 1]), y.at(s))]
        corners.append((x.at(edges[-1]), y.at(0)))
        parts.append(
            Markup('<path class="bars" d="{}" style="fill:{};stroke:{}"><title>{}</title></path>').format(
                _path(corners), colour, colour, name
            )
        )
    return _svg(parts, describe)


def ranked(
    names: Sequence[str], values: Sequence[float], *, y_label: str, named: int = 5, describe: str = ""
) -> Markup:
    """Values in falling order, one dot each, the first and last few with their names.

    Parameters
    ----------
    names, values
        Sorted by falling value; all finite.
    y_label
        What the values are.
    named
        How many at either end have their name written.
    describe
        What the picture shows, for readers who do not see it.
    """
    width, height = 1000.0, 260.0
    x = Axis(-0.02 * len(values), max(1.0, len(values) - 1 + 0.02 * len(values)), LEFT, width - RIGHT)
    y = Axis.around([*values, 0.0], height - BOTTOM, TOP, pad=0.12)
    parts = [_frame(x, y, "features, best first", y_label, width, height, x_ticks=False)]
    zero = y.at(0.0)
    parts.append(
        Markup('<line class="reference" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>').format(
            x.start, x.end, zero, zero
        )
    )
    for i, (name, value) in enumerate(zip(names, values)):
        parts.append(
            Markup('<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="2.2"><title>{}: {:.2f}</title></circle>').format(
                x.at(i), y.at(value), name, value
            )
        )
    if len(values) <= 2 * named:
        for i, name in enumerate(names):
            at_end = i == len(values) - 1 and i > 0
            parts.append(_text(x.at(i), y.at(values[i]) - 8, _short(name), "end" if at_end else "middle", "note"))
    else:
        # The curve falls: there is room above its beginning and below its end.
        best = "best: " + ", ".join(_short(n) for n in names[:named])
        worst = "worst: " + ", ".join(_short(n) for n in names[-named:])
        parts.append(_text(x.at(0), y.at(values[0]) - 9, best, "start", "note"))
        parts.append(_text(x.end, min(y.at(values[-1]) + 18, height - BOTTOM - 4), worst, "end", "note"))
    return _svg(parts, describe, width, height)


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:23]}…"


def _frame(
    x: Axis,
    y: Axis,
    x_label: str,
    y_label: str,
    width: float = WIDTH,
    height: float = HEIGHT,
    *,
    x_ticks: bool = True,
) -> Markup:
    """Axes, ticks, grid and titles."""
    floor = height - BOTTOM
    parts = [Markup('<path class="axis" d="M{:.1f} {:.1f}V{:.1f}H{:.1f}"/>').format(LEFT, TOP, floor, width - RIGHT)]
    for tick in x.ticks() if x_ticks else []:
        at = x.at(tick)
        parts.append(Markup('<path class="axis" d="M{:.1f} {:.1f}v3"/>').format(at, floor))
        parts.append(_text(at, floor + 13, number(tick), "middle", "tick"))
    for tick in y.ticks():
        at = y.at(tick)
        parts.append(Markup('<path class="grid" d="M{:.1f} {:.1f}H{:.1f}"/>').format(LEFT, at, width - RIGHT))
        parts.append(_text(LEFT - 5, at + 3.5, number(tick), "end", "tick"))
    parts.append(_text((LEFT + width - RIGHT) / 2, height - 4, x_label, "middle", "title"))
    if y_label:
        middle = (TOP + floor) / 2
        parts.append(
            Markup(
                '<text class="title" text-anchor="middle" transform="translate(10 {:.1f}) rotate(-90)">{}</text>'
            ).format(middle, y_label)
        )
    return Markup("").join(parts)


def _text(x: float, y: float, text: str, anchor: str, kind: str) -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(kind, x, y, anchor, text)


def _path(points: Sequence[tuple[float, float]]) -> Markup:
    """Path through points, one decimal each: enough for a screen and a third of the size."""
    return Markup("M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in points))


def _svg(parts: Sequence[Markup], describe: str, width: float = WIDTH, height: float = HEIGHT) -> Markup:
    inside = Markup("").join(parts)
    return Markup('<svg class="chart" viewBox="0 0 {:g} {:g}" role="img" aria-label="{}">{}</svg>').format(
        width, height, escape(describe), inside
    )

"""Imputed features: against measured ones in paired data, else their distributions side by side."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from scmodal.plots import MODALITY_TITLES, NO_LABEL, NO_LABEL_COLOUR, ends, label_colours, pearson, stratified_sample
from scmodal.predictability import cannot_be_imputed
from scmodal.report.page import (
    Figure,
    Section,
    data_island,
    direction_title,
    grouping,
    multiples,
    plain_legend,
    quantised,
    scatter,
    table,
)
from scmodal.report.reading import Direction, ReportData, read_cells, read_expected, read_features, read_part
from scmodal.report.svg import histogram, ranked

MAX_FEATURES = 240
"""Features whose cells are in the page; of more, the best, the worst and an even choice between."""
MAX_CELLS = 600
"""Cells in each scatter plot."""
MAX_HISTOGRAM_CELLS = 5_000
MAX_ROWS = 1_500
MAX_POINTS = 600
"""Points in the picture of all features."""
NAMED = 4
"""Best and worst features drawn side by side."""


def imputation_section(data: ReportData) -> Section:
    """One block of figures a direction."""
    title = "Imputation"
    if not data.imputed:
        return Section("imputation", title, "No features were imputed in this run.")
    figures, sentences = [], []
    for direction in data.imputed:
        found, said = _paired(data, direction) if data.paired else _unpaired(data, direction)
        figures += found
        sentences += [said] if said else []
    lead = (
        "What one modality would have measured in the cells of another, as the model sees it, in log-normalised units"
    )
    cytometry = any(target == "cytometry" for _, target in data.imputed)
    lead += " (cytometry: the arcsinh units of its prepared file)." if cytometry else "."
    return Section("imputation", title, " ".join([lead, *sentences]), figures)


def choose_features(ranking: list[str], limit: int) -> list[str]:
    """All of a ranking, or its first third, last third and an even choice between, `limit` in all."""
    if len(ranking) <= limit:
        return ranking
    third = limit // 3
    between = np.linspace(third, len(ranking) - third - 1, limit - 2 * third).round().astype(int)
    return ranking[:third] + [ranking[i] for i in between] + ranking[len(ranking) - third :]


def _per_feature(data: ReportData, direction: Direction) -> dict[str, float]:
    """Correlation of every feature, mean over the seeds that were evaluated."""
    found: dict[str, list[float]] = {}
    for evaluation in data.evaluations:
        entry: dict[str, Any] = (evaluation.get("imputation") or {}).get("_to_".join(direction)) or {}
        for feature, r in (entry.get("per_feature") or {}).items():
            if r is not None and math.isfinite(float(r)):
                found.setdefault(str(feature), []).append(float(r))
    return {feature: float(np.mean(values)) for feature, values in found.items()}


def _paired(data: ReportData, direction: Direction) -> tuple[list[Figure], str]:
    modality, file = data.modality(direction[1]), data.imputed[direction]
    expected = read_expected(file)
    partner = pd.Index(read_cells(file)).get_indexer(pd.Index(modality.cells))
    rows = np.flatnonzero(partner >= 0)
    name = direction_title(*direction)
    if len(rows) < 3:
        return [], f"{name}: imputed and measured data share fewer than three cells."
    if len(rows) > MAX_CELLS:
        rows = np.sort(np.random.default_rng(0).choice(rows, MAX_CELLS, replace=False))
    measured, names = modality.measured(data.recipe(direction[1]), rows)
    column = {f: i for i, f in enumerate(names)}
    shared = [f for f in read_features(file) if f in column]
    r = {f: v for f, v in _per_feature(data, direction).items() if f in column}
    chosen = choose_features(sorted(set(shared) & set(r), key=lambda f: (-r[f], f)) if r else shared, MAX_FEATURES)
    x = measured[:, [column[f] for f in chosen]]
    y = read_part(file, partner[rows], chosen)
    if not r:
        r = {f: pearson(x[:, i], y[:, i]) for i, f in enumerate(chosen)}
        r = {f: v for f, v in r.items() if math.isfinite(v)}
    ranking = sorted(r, key=lambda f: (-r[f], f))
    if not ranking:
        return [], f"{name}: no feature varies in both imputed and measured data."
    at = {f: i for i, f in enumerate(chosen)}
    chosen = [f for f in ranking if f in at]

    labels = data.labels(modality)
    colours, codes = {"cells": "#0072B2"}, np.zeros(len(rows), dtype=int)
    if labels is not None:
        shown = [v or NO_LABEL for v in labels[rows]]
        colours = label_colours(labels[labels != ""])
        if NO_LABEL in shown:
            colours[NO_LABEL] = NO_LABEL_COLOUR
        number = {n: i for i, n in enumerate(colours)}
        codes = np.array([number[v] for v in shown])
    series = []
    for f in chosen:
        px, x_range = quantised(x[:, at[f]])
        py, y_range = quantised(y[:, at[f]])
        series.append({"name": f, "r": round(r[f], 3), "x": px, "y": py, "xr": x_range, "yr": y_range})
    source = f"imputed-{direction[0]}-{direction[1]}"
    island = data_island(
        source,
        {
            "cells": modality.cells[rows].tolist(),
            "series": series,
            "groups": {"label": grouping(codes, colours)},
        },
    )
    target = MODALITY_TITLES.get(direction[1], direction[1])

    values = np.array([r[f] for f in ranking])
    overview = _ranked_features(ranking, {"r": r, "expected r": expected}, "Pearson r")
    best, worst = ends(chosen, NAMED)
    grid = multiples((_named(f, r[f]), _panel(source, chosen.index(f), f), "") for f in [*best, *worst])
    other = next((i for i, f in enumerate(chosen) if f not in {*best, *worst}), 0)
    options = Markup("").join(
        Markup('<option value="{}"{}>{}</option>').format(i, Markup(" selected") if i == other else "", _named(f, r[f]))
        for i, f in enumerate(chosen)
    )
    picker = Markup(
        '<div class="picker"><label>any other feature: <select data-source="{}">{}</select></label>{}</div>'
    ).format(source, options, _panel(source, other, chosen[other]))
    legend = plain_legend(colours) if labels is not None else ""
    figures = [
        Figure(
            overview,
            f"Correlation of imputed and measured values, {name}",
            f"{len(ranking):,} features, mean r {values.mean():.2f}, median {np.median(values):.2f}; "
            f"{int((values > 0.5).sum()):,} above 0.5. {_expected_said(expected, r)}".strip(),
            "markers of cell types lie well above zero.",
            "most features lie around zero; those that hardly vary in these cells always do.",
        ),
        Figure(
            legend + grid + picker + island,
            f"Imputed against measured values, {name}",
            f"The {len(best)} best" + (f" and {len(worst)} worst" if worst else "") + f" features in"
            f" {len(rows):,} cells whose {target} was measured too; the model was not told which measurement is whose.",
            "points along a rising line; it is flatter than the line of equality, as imputed values are drawn to the"
            " mean.",
            "a flat or shapeless cloud, or islands of one label in the wrong place.",
        ),
    ]
    return figures, _not_imputed(expected, direction)


def _ranked_features(ranking: list[str], columns: dict[str, dict[str, float]], y_label: str) -> Markup:
    """The first column's values from the best to the worst as a picture, and a table to look features up in."""
    thin = ranking
    if len(ranking) > MAX_POINTS:
        thin = [ranking[i] for i in np.unique(np.linspace(0, len(ranking) - 1, MAX_POINTS).round().astype(int))]
    first = next(iter(columns.values()))
    overview = ranked(thin, [first[f] for f in thin], y_label=y_label, describe=f"{y_label} of every feature")
    rows = [(f, *(f"{own[f]:.3f}" if f in own else "" for own in columns.values())) for f in ranking[:MAX_ROWS]]
    listing = Markup(
        '<details class="listing"><summary>{}</summary>'
        '<input type="search" placeholder="find a feature" aria-label="find a feature">{}</details>'
    ).format(
        f"All features ({len(ranking):,})" if len(ranking) <= MAX_ROWS else f"The best {MAX_ROWS:,} features",
        table(["feature", *columns], rows, numeric=list(range(1, 1 + len(columns))), kind="searchable"),
    )
    return Markup('<div class="overflow">{}</div>').format(overview) + listing


def _expected_said(expected: dict[str, float], r: dict[str, float]) -> str:
    """How well the correlations were foretold."""
    away = [abs(expected[f] - r[f]) for f in r if f in expected]
    if not away:
        return ""
    return (
        "The correlation to expect was told from the imputed values alone, by their spread; it is off by "
        f"{np.mean(away):.2f} on average."
    )


def _not_imputed(expected: dict[str, float], direction: Direction) -> str:
    """Which features cannot be imputed."""
    source, target = (MODALITY_TITLES.get(name, name) for name in direction)
    return cannot_be_imputed(list(expected), np.array(list(expected.values())), source, target)


def _named(feature: str, r: float) -> str:
    return f"{feature} (r = {r:.2f})".replace("= -", "= −")


def _panel(source: str, series: int, feature: str) -> Markup:
    return scatter(
        source,
        "label",
        f"Imputed against measured {feature}",
        x_label="measured",
        y_label="imputed",
        series=str(series),
    )


def _unpaired(data: ReportData, direction: Direction) -> tuple[list[Figure], str]:
    modality, file = data.modality(direction[1]), data.imputed[direction]
    name = direction_title(*direction)
    rows, other = (_some(n) for n in (len(modality.cells), len(read_cells(file))))
    if len(rows) == 0 or len(other) == 0:
        return [], f"{name}: there are no cells to compare."
    measured, names = modality.measured(data.recipe(direction[1]), rows)
    column = {f: i for i, f in enumerate(names)}
    chosen = choose_features([f for f in read_features(file) if f in column], MAX_FEATURES)
    if not chosen:
        return [], f"{name}: imputed and measured data have no feature in common."
    measured, imputed = measured[:, [column[f] for f in chosen]], read_part(file, other, chosen)
    away = quantile_distance(measured, imputed)
    order = [int(i) for i in np.argsort(away, kind="stable") if math.isfinite(away[i])]
    if not order:
        return [], f"{name}: no measured feature varies."
    near, far = ends([str(i) for i in order], 2 * NAMED)
    colours = {"measured": "var(--faint)", "imputed": "var(--accent)"}
    panels = [
        (
            chosen[i],
            histogram(
                [("measured", measured[:, i], colours["measured"]), ("imputed", imputed[:, i], colours["imputed"])],
                x_label="arcsinh value" if modality.name == "cytometry" else "log-normalised value",
                describe=f"Distribution of measured and imputed {chosen[i]}",
            ),
            "",
        )
        for i in map(int, [*near, *far])
    ]
    caption = (
        f"The {len(near)} features whose distributions agree best"
        + (f" and the {len(far)} that agree least" if far else "")
        + ". The cells are not paired, so imputed and measured values cannot be compared cell by cell."
    )
    title = f"Distribution of imputed and measured values, {name}"
    figure = Figure(
        plain_legend(colours) + multiples(panels),
        title,
        caption,
        "the same peaks in the same places; a sharp measured peak at zero is counts never caught and need not be met.",
        "one narrow heap where the measured values have two.",
    )
    expected = read_expected(file)
    figures = [figure] if not expected else [_expected_figure(expected, name), figure]
    return figures, _not_imputed(expected, direction)


def _expected_figure(expected: dict[str, float], name: str) -> Figure:
    """How well each feature can be imputed, where nothing is measured to compare with."""
    values = np.array(list(expected.values()))
    return Figure(
        _ranked_features(sorted(expected, key=lambda f: (-expected[f], f)), {"expected r": expected}, "expected r"),
        f"Expected correlation of imputed with true values, {name}",
        f"Told from the spread of the imputed values: mean {values.mean():.2f} over {len(values):,} features,"
        f" {int((values > 0.5).sum()):,} above 0.5. It holds as far as the data sets are matched rightly.",
        "markers of cell types lie well above zero.",
        "most features lie around zero: the shared space says nothing about them.",
    )


def _some(n: int) -> np.ndarray:
    """Row numbers of all, or of so many that a histogram gains nothing from more."""
    return stratified_sample([n], MAX_HISTOGRAM_CELLS)[0]


def quantile_distance(measured: np.ndarray, imputed: np.ndarray) -> np.ndarray:
    """Mean distance of the quantiles of each column, in standard deviations of the measured one.

    Parameters
    ----------
    measured, imputed
        Cells x features, the same features; the cells are different ones.

    Returns
    -------
    ndarray
        One value a feature, 0 for equal distributions, NaN where the measured column does not vary.
    """
    grid = np.linspace(0.01, 0.99, 50)
    gap = np.abs(np.quantile(measured, grid, axis=0) - np.quantile(imputed, grid, axis=0)).mean(axis=0)
    spread = measured.std(axis=0)
    return np.divide(gap, spread, out=np.full(gap.shape, math.nan), where=spread > 0)

"""The picture of the shared latent space: UMAP by modality and by label."""

from __future__ import annotations

from collections import Counter

import numpy as np
from markupsafe import Markup

from scmodal.plots import (
    MODALITY_COLOURS,
    NO_LABEL,
    NO_LABEL_COLOUR,
    label_colours,
    stratified_sample,
    umap_coordinates,
)
from scmodal.report.page import Figure, Section, data_island, grouping, join_words, legend, quantised, scatter
from scmodal.report.reading import Modality, ReportData

MAX_CELLS = 20_000
"""Cells drawn: beyond this a picture gains nothing and UMAP takes minutes."""


def latent_section(data: ReportData, seed: int = 0) -> Section:
    """UMAP of the first run's latent, the same coordinates coloured by modality and by label."""
    sizes = [len(m.cells) for m in data.modalities]
    rows = stratified_sample(sizes, MAX_CELLS, seed)
    xy = umap_coordinates(np.concatenate([m.z[r] for m, r in zip(data.modalities, rows)]), seed)
    cells = np.concatenate([m.cells[r] for m, r in zip(data.modalities, rows)])
    modality = np.repeat(np.arange(len(rows)), [len(r) for r in rows])
    found = [cell_labels(data, m) for m in data.modalities]
    labels = np.concatenate([np.full(len(r), "", dtype=object) if f is None else f[0][r] for f, r in zip(found, rows)])
    # One fixed shuffle, so that no group hides another by being drawn last.
    order = np.random.default_rng(seed).permutation(len(cells))
    xy, cells, modality, labels = xy[order], cells[order], modality[order], labels[order]

    modality_colours = {m.title: MODALITY_COLOURS.get(m.name, "#666666") for m in data.modalities}
    x, x_range = quantised(xy[:, 0])
    y, y_range = quantised(xy[:, 1])
    colourings = {"modality": grouping(modality, modality_colours)}
    counts = Counter(labels)
    label_shades = label_colours(v for v in labels if v)
    if label_shades and counts[""]:
        label_shades[NO_LABEL] = NO_LABEL_COLOUR
    if label_shades:
        number = {name: code for code, name in enumerate(label_shades)}
        colourings["label"] = grouping(np.array([number[v or NO_LABEL] for v in labels]), label_shades)
    island = data_island(
        "latent",
        {"cells": cells.tolist(), "series": [{"x": x, "y": y, "xr": x_range, "yr": y_range}], "groups": colourings},
    )
    n_of = {m.title: len(r) for m, r in zip(data.modalities, rows)}
    n_of_label = {name: counts["" if name == NO_LABEL else name] for name in label_shades}
    left = scatter("latent", "modality", "UMAP of all cells coloured by modality", x_label="UMAP 1", y_label="UMAP 2")
    body = Markup('<div class="pair"><div><h4>by modality</h4>{}{}</div>').format(
        left, legend("latent", "modality", modality_colours, n_of)
    )
    if label_shades:
        right = scatter("latent", "label", "UMAP of all cells coloured by label", x_label="UMAP 1", y_label="UMAP 2")
        body += Markup("<div><h4>by label</h4>{}{}</div>").format(
            right, legend("latent", "label", label_shades, n_of_label)
        )
    body += Markup("</div>") + island
    figure = Figure(
        body,
        "Latent space (UMAP)",
        "Point at a cell for its name; click a name below to hide its cells, double-click to see them"
        " alone; drag to zoom, double-click the picture to see all.",
        "within every island the colours of the modalities are interleaved, and each label keeps an island of its own.",
        "islands of one modality only (not mixed), or labels stirred together (mixed too much). Distances between far"
        " islands mean little.",
    )
    same = " Both panels have the same coordinates." if label_shades else ""
    sentences = [f"One point is one cell, placed by a UMAP of the latent{_seed(data)}.{same}"]
    if sum(sizes) > MAX_CELLS:
        sentences.append(
            f"{sum(len(r) for r in rows):,} of {sum(sizes):,} cells are drawn, from every modality in proportion."
        )
    sentences += [f"{m.title}: {f[1]}." for m, f in zip(data.modalities, found) if f is not None and f[1]]
    without = [m.title for m, f in zip(data.modalities, found) if f is None]
    if not label_shades:
        sentences.append(
            "No modality has labels, so there is no panel by label; name a column with label_key in the samplesheet."
        )
    elif without:
        sentences.append(f"No labels are known for {join_words(without)}.")
    return Section("latent", "Shared latent space", " ".join(sentences), [figure])


def cell_labels(data: ReportData, modality: Modality) -> tuple[np.ndarray, str] | None:
    """Labels to colour cells by, and where they are from if they are not the modality's own; None without any.

    Own labels (or, in paired data, those of the partner cells) where there are any, else transferred ones.
    """
    known = data.labels(modality)
    if known is not None:
        return known, "" if modality.label_key else "labels are those of the paired cells"
    for (source, target), table in data.transfers.items():
        if target == modality.name:
            given = dict(zip(table["cell"], table["label"]))
            labels = np.array([given.get(c, "") for c in modality.cells], dtype=object)
            if any(labels):
                return labels, f"labels are those transferred from {data.modality(source).title}"
    return None


def _seed(data: ReportData) -> str:
    if len(data.runs) < 2:
        return ""
    seed = data.runs[0].seed
    return f" of seed {seed}" if seed is not None else " of the first run"

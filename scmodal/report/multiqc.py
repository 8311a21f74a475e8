"""Sections for MultiQC: three custom-content files beside the report, found there by their ``_mqc.json`` ending.

Files of several samples share the section's ``id``, which makes MultiQC draw them in one table and in one plot.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from scmodal.contracts import MODALITIES
from scmodal.io import write_json
from scmodal.plots import LOSS_TERMS, MODALITY_TITLES, binned_history
from scmodal.report.coverage import coverage_counts
from scmodal.report.keynumbers import KeyNumber
from scmodal.report.page import capital, direction_title
from scmodal.report.reading import ReportData

POINTS = 100
"""Points of a curve: MultiQC's report holds those of all samples."""
CURVES = ("loss_discriminator", "loss_autoencoder", "loss_cycle", "loss_anchor")
"""Losses that are positive and of a similar size."""


def write_multiqc(data: ReportData, numbers: list[KeyNumber], n_links: int, folder: Path) -> list[Path]:
    """Write the files that have something to show.

    Parameters
    ----------
    data
        What the report was made of.
    numbers
        Its key numbers.
    n_links
        Number of links used.
    folder
        Folder to write to; made if it is not there.

    Returns
    -------
    list of Path
        The files written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    contents = {"general": _general(data, numbers, n_links), "history": _history(data), "links": _links(data)}
    written = []
    for name, content in contents.items():
        if content["data"]:
            path = folder / f"{data.sample}_scmodal_{name}_mqc.json"
            write_json(content, path)
            written.append(path)
    return written


def _general(data: ReportData, numbers: list[KeyNumber], n_links: int) -> dict[str, Any]:
    """One row of the table at the top of MultiQC's page.

    MultiQC keeps the column definitions of one file only, so every file defines all columns that any sample may have;
    those without a value in any sample are not shown.
    """
    row: dict[str, float] = {k.key: round(k.mean, 6) for k in numbers}
    row |= {f"cells_{m.name}": len(m.cells) for m in data.modalities}
    if n_links:
        row["links"] = n_links
    return {
        "id": "scmodal_general",
        "section_name": "scMODAL",
        "description": "Integration of single-cell modalities into one latent space.",
        "plot_type": "generalstats",
        "pconfig": [{key: column} for key, column in _columns().items()],
        "data": {data.sample: row},
    }


def _columns() -> dict[str, dict[str, Any]]:
    """Every column that the table may have."""
    columns: dict[str, dict[str, Any]] = {}
    both_ways = list(itertools.permutations(MODALITIES, 2))
    for a, b in both_ways:
        columns[f"accuracy_{a}_to_{b}"] = _share(
            f"Labels {direction_title(a, b)}", f"Accuracy of labels transferred from {a} to {b}"
        )
    for a, b in both_ways:
        title = f"FOSCTTM {MODALITY_TITLES[a]}, {MODALITY_TITLES[b]}"
        note = "Fraction of cells closer than the true partner: 0 perfect, 0.5 chance"
        columns[f"foscttm_{a}_{b}"] = {**_share(title, note), "format": "{:,.3f}", "max": 0.5, "scale": "RdYlGn-rev"}
    for a, b in both_ways:
        columns[f"imputation_{a}_to_{b}"] = _share(
            f"Imputation r {direction_title(a, b)}", f"Mean Pearson r of {b} features imputed from {a}"
        )
    for a, b in both_ways:
        title = f"Mixing {MODALITY_TITLES[a]}, {MODALITY_TITLES[b]}"
        columns[f"mixing_{a}_{b}"] = _share(title, "Mixing among each cell's neighbours: 1 full, 0 none")
    columns["discriminator_mixing"] = _share("Discriminator mixing", "Discriminator loss / (2 ln 2): 1 full, 0 none")
    for a, b in both_ways:
        columns[f"confidence_{a}_to_{b}"] = _share(
            f"Confidence {direction_title(a, b)}", f"Median confidence of labels transferred from {a} to {b}"
        )
    for m in MODALITIES:
        columns[f"cells_{m}"] = _count(f"{capital(MODALITY_TITLES[m])} cells", f"Cells measured with {m}")
    columns["links"] = _count("Links", "Pairs of features that guide the integration")
    return columns


def _share(title: str, description: str) -> dict[str, Any]:
    return {
        "title": title,
        "description": description,
        "namespace": "scMODAL",
        "min": 0,
        "max": 1,
        "format": "{:,.2f}",
        "scale": "RdYlGn",
    }


def _count(title: str, description: str) -> dict[str, Any]:
    return {
        "title": title,
        "description": description,
        "namespace": "scMODAL",
        "min": 0,
        "format": "{:,.0f}",
        "scale": "Blues",
    }


def _history(data: ReportData) -> dict[str, Any]:
    """Curves of the first run, one a loss, as far as a logarithmic axis can show them."""
    lines: dict[str, list[list[float]]] = {}
    history = data.runs[0].history
    for column in CURVES:
        if column in history and len(history):
            curve = binned_history(history["step"].to_numpy(), history[column].to_numpy(), POINTS)
            title = next(t.title for t in LOSS_TERMS if t.column == column)
            # Pairs, because MultiQC would put the names of an object into the order of text.
            points = [[round(s, 1), float(f"{v:.5g}")] for s, v in zip(curve["step"], curve["mean"])]
            if points:
                lines[f"{data.sample} {title}"] = points
    return {
        "id": "scmodal_history",
        "section_name": "scMODAL: training",
        "description": "Losses over the steps of training. The discriminator's would be 2 ln 2 = 1.386 a pair of"
        " modalities if it could not tell them apart at all.",
        "plot_type": "linegraph",
        "pconfig": {
            "id": "scmodal_history_plot",
            "title": "scMODAL: training losses",
            "xlab": "step",
            "ylab": "loss",
            "logswitch": True,
            "logswitch_active": True,
        },
        "data": lines,
    }


def _links(data: ReportData) -> dict[str, Any]:
    """Bars of linked and unlinked features, one a modality."""
    counts = coverage_counts(data.coverage) if data.coverage is not None else {}
    return {
        "id": "scmodal_links",
        "section_name": "scMODAL: links",
        "description": "Features that have a link to the other modality, and features that have none.",
        "plot_type": "bargraph",
        "pconfig": {
            "id": "scmodal_links_plot",
            "title": "scMODAL: link coverage",
            "ylab": "features",
        },
        "categories": {
            "linked": {"name": "linked", "color": "#0072B2"},
            "not_linked": {"name": "not linked", "color": "#BBBBBB"},
        },
        "data": {
            f"{data.sample} {MODALITY_TITLES.get(name, name)}": {"linked": matched, "not_linked": unmatched}
            for name, (matched, unmatched) in counts.items()
        },
    }

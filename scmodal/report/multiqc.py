"""Sections for MultiQC: three custom-content files beside the report, found there by their ``_mqc.json`` ending.

Files of several samples share the section's ``id``, which makes MultiQC draw them in one table and in one plot.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scmodal.io import write_json
from scmodal.plots import LOSS_TERMS, MODALITY_TITLES, binned_history
from scmodal.report.coverage import coverage_counts
from scmodal.report.keynumbers import KeyNumber
from scmodal.report.reading import ReportData

POINTS = 100
"""Points of a curve: MultiQC's report holds those of all samples."""


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
    """One row of the table at the top of MultiQC's page."""
    columns: list[dict[str, dict[str, Any]]] = []
    row: dict[str, float] = {}
    for k in numbers:
        columns.append(
            {
                k.key: {
                    "title": k.name[:1].upper() + k.name[1:],
                    "description": k.note or k.name,
                    "namespace": "scMODAL",
                    "min": 0,
                    "max": 1,
                    "format": f"{{:,.{k.digits}f}}",
                    "scale": "RdYlGn-rev" if k.key.startswith("foscttm") else "RdYlGn",
                }
            }
        )
        row[k.key] = round(k.mean, 6)
    for m in data.modalities:
        title = f"{MODALITY_TITLES.get(m.name, m.name)} cells"
        columns.append({f"cells_{m.name}": _count(title, f"Cells measured with {m.name}")})
        row[f"cells_{m.name}"] = len(m.cells)
    if n_links:
        columns.append({"links": _count("Links", "Pairs of features that guide the integration")})
        row["links"] = n_links
    return {
        "id": "scmodal_general",
        "section_name": "scMODAL",
        "description": "Integration of single-cell modalities into one latent space.",
        "plot_type": "generalstats",
        "pconfig": columns,
        "data": {data.sample: row},
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
    """Curves of the first run, one a loss."""
    lines: dict[str, dict[float, float]] = {}
    history = data.runs[0].history
    for term in LOSS_TERMS:
        if term.column in history and len(history):
            curve = binned_history(history["step"].to_numpy(), history[term.column].to_numpy(), POINTS)
            points = {round(s, 1): float(f"{v:.5g}") for s, v in zip(curve["step"], curve["mean"])}
            if points:
                lines[f"{data.sample} {term.title}"] = points
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

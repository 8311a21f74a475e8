"""The coverage report of links, in numbers and in words: what matched, what did not, and the nearest name."""

from __future__ import annotations

from typing import Any

import pandas as pd

from scmodal.antigens import ANTIBODY
from scmodal.link_table import LinkTable

COVERAGE_COLUMNS = ["modality", "feature", "matched", "partner", "nearest", "note"]
"""Columns of the coverage report."""

NOT_IN_DATA = "in the links table, not in the data"


def coverage_summary(coverage: pd.DataFrame, links: LinkTable) -> dict[str, Any]:
    """Numbers of a coverage report, ready for JSON.

    Parameters
    ----------
    coverage
        Second value of :func:`build_links`.
    links
        First value of :func:`build_links`.

    Returns
    -------
    dict
        ``n_links``; ``pairs``: list of modality_a, modality_b, n_links; ``modalities``: for each its n_features,
        n_linked, fraction_linked, and for antibody panels ``unlinked`` (feature -> why); ``not_in_data``: names of the
        user's table that the data lack; ``messages``.
    """
    frame = links.frame
    pairs = [
        {"modality_a": str(a), "modality_b": str(b), "n_links": len(group)}
        for (a, b), group in frame.groupby(["modality_a", "modality_b"], sort=False)
    ]
    stray = coverage["note"] == NOT_IN_DATA
    modalities: dict[str, Any] = {}
    for modality, group in coverage[~stray].groupby("modality", sort=False):
        n, linked = len(group), int(group["matched"].sum())
        entry: dict[str, Any] = {"n_features": n, "n_linked": linked, "fraction_linked": linked / n}
        if modality in ANTIBODY:
            lone = group[~group["matched"]]
            entry["unlinked"] = dict(zip(lone["feature"].astype(str), lone["note"].astype(str), strict=True))
        modalities[str(modality)] = entry
    return {
        "n_links": len(links),
        "pairs": pairs,
        "modalities": modalities,
        "not_in_data": [str(name) for name in coverage.loc[stray, "feature"]],
        "messages": list(links.messages),
    }


def coverage_text(coverage: pd.DataFrame, links: LinkTable, max_rows: int = 20) -> str:
    """Coverage report for people.

    Parameters
    ----------
    coverage, links
        What :func:`build_links` returns.
    max_rows
        At most so many features without a link are listed for a modality.

    Returns
    -------
    str
        Lines of text, no line break at the end.
    """
    summary = coverage_summary(coverage, links)
    lines = [f"{p['modality_a']} - {p['modality_b']}: {p['n_links']} links" for p in summary["pairs"]]
    lines = lines or ["no links"]
    for modality, numbers in summary["modalities"].items():
        lines.append(f"{modality}: {numbers['n_linked']} of {numbers['n_features']} features linked")
        if modality not in ANTIBODY:
            continue
        lone = coverage[(coverage["modality"] == modality) & ~coverage["matched"] & (coverage["note"] != NOT_IN_DATA)]
        lines += _listed(lone, max_rows)
    stray = coverage[coverage["note"] == NOT_IN_DATA]
    if len(stray):
        lines.append("in the links table, not in the data:")
        lines += _listed(stray, max_rows)
    lines += summary["messages"]
    return "\n".join(lines)


def _listed(rows: pd.DataFrame, max_rows: int) -> list[str]:
    lines = []
    for feature, close, note in zip(rows["feature"][:max_rows], rows["nearest"], rows["note"], strict=False):
        said = "" if note == NOT_IN_DATA else f": {note}" if note else ""
        near = f" (nearest: {close.replace(';', ', ')})" if close else ""
        lines.append(f"  {feature}{said}{near}")
    if len(rows) > max_rows:
        lines.append(f"  and {len(rows) - max_rows} more")
    return lines

"""Whether the integration can be trusted, and which seed was chosen."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from scmodal.plots import MODALITY_TITLES
from scmodal.report.page import Section, join_words, table
from scmodal.report.reading import ReportData

_MEANING = {
    "trusted": "Nothing speaks against this integration.",
    "doubtful": "Something speaks against this integration; look at it before building on it.",
    "failed": "Do not build on this integration; the first reason below says why.",
}


def verdict_section(data: ReportData) -> Section | None:
    """Verdict with its reasons and, of several seeds, their scores; None where `scmodal select` was not run."""
    found = data.selection
    if not found:
        return None
    lead = f"{found['verdict'].capitalize()}. {_MEANING[found['verdict']]} Judged without labels and without pairs."
    reasons = Markup("").join(Markup("<li>{}</li>").format(_titled(reason)) for reason in found["reasons"])
    body = Markup('<ul class="reasons">{}</ul>').format(reasons)
    runs = found.get("runs", [])
    if len(runs) > 1:
        lead += f" Seed {found['chosen_seed']} was chosen of {join_words([str(run['seed']) for run in runs])}"
        lead += " and is the one shown here."
        body += _scores(runs)
    return Section("verdict", "Can it be trusted?", lead, body=body)


def _titled(reason: str) -> str:
    """A reason with the modalities' names as they are written elsewhere."""
    pair, colon, rest = reason.partition(": ")
    if not colon:
        return reason[:1].upper() + reason[1:]
    return " and ".join(MODALITY_TITLES.get(name, name) for name in pair.split(" and ")) + ": " + rest


def _scores(runs: list[dict[str, Any]]) -> Markup:
    rows = [
        [
            run["seed"],
            " – ".join(MODALITY_TITLES.get(name, name) for name in pair.split("|")),
            *(f"{s[key]:.3f}" for key in ("score", "coherence", "cycle", "mixing")),
            "–" if run["likeness"] is None else f"{run['likeness']:.3f}",
        ]
        for run in runs
        for pair, s in run["pairs"].items()
    ]
    header = ["seed", "pair", "score", "links agree", "cells come home", "mixing", "like the other seeds"]
    return table(header, rows, numeric=range(2, len(header)))

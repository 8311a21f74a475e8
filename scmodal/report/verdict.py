"""Whether the integration can be trusted, and which seed was chosen."""

from __future__ import annotations

from typing import Any

import pandas as pd
from markupsafe import Markup

from scmodal.contracts import MODALITY_TITLES
from scmodal.counterpart import ALONE, COLUMN
from scmodal.report.page import Section, join_words, table
from scmodal.report.reading import ReportData
from scmodal.transfer import clean_labels

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
        seeds = [run["seed"] for run in runs]
        if seeds.count(found["chosen_seed"]) == 1:
            lead += f" Seed {found['chosen_seed']} was chosen of {join_words([str(seed) for seed in seeds])}"
        else:  # settings were compared
            lead += (
                f" The run {found.get('chosen_run')} was chosen of {join_words([str(run.get('run')) for run in runs])}"
            )
        lead += " and is the one shown here."
        body += _scores(runs)
    body += _without_counterpart(data)
    return Section("verdict", "Can it be trusted?", lead, body=body)


NOTABLE = 0.1
"""Share of a label's cells without a counterpart from which on the label is named."""


def _without_counterpart(data: ReportData) -> Markup:
    """Which cells have no like on the other side: of each data set, and of the labels that it was prepared with."""
    rows: list[list[Any]] = []
    for modality in data.modalities:
        key = str(modality.info.get("label_key") or "")
        for column in (str(name) for name in modality.obs.columns if str(name).startswith(COLUMN)):
            other = MODALITY_TITLES.get(column.removeprefix(COLUMN), column.removeprefix(COLUMN))
            alone = modality.obs[column].to_numpy(dtype=float) < ALONE
            rows.append([modality.title, other, "all", f"{len(alone):,}", f"{alone.mean():.1%}"])
            if key not in modality.obs.columns:
                continue
            labels, there = clean_labels(modality.obs[key])
            of_label = pd.Series(alone[there]).groupby(labels[there]).agg(["size", "mean"])
            worst = of_label[of_label["mean"] >= NOTABLE].sort_values("mean", ascending=False)
            rows += [
                [modality.title, other, label, f"{int(size):,}", f"{share:.1%}"]
                for label, size, share in worst.itertuples()
            ]
    if not rows:
        return Markup("")
    lead = Markup("<p>{}</p>").format(
        "Cells that have no like in the other data set, or far too few; their labels and imputed values may be those "
        f"of other cells. Labels are named of which at least {NOTABLE:.0%} of the cells are such."
    )
    return lead + table(["cells of", "compared with", "label", "cells", "without counterpart"], rows, numeric=(3, 4))


def _titled(reason: str) -> str:
    """A reason with the modalities' names as they are written elsewhere."""
    pair, colon, rest = reason.partition(": ")
    if not colon:
        return reason[:1].upper() + reason[1:]
    return " and ".join(MODALITY_TITLES.get(name, name) for name in pair.split(" and ")) + ": " + rest


_SCORES = {
    "score": "score",
    "coherence": "links agree",
    "round_trip": "there and back",
    "predictability": "predictable",
    "cycle": "cells come home",
    "mixing": "mixing",
}
"""Scores of a run and pair, and the heads of their columns."""


def _scores(runs: list[dict[str, Any]]) -> Markup:
    seeds = [run["seed"] for run in runs]
    rows = [
        [
            run["seed"] if seeds.count(run["seed"]) == 1 else run.get("run"),
            " – ".join(MODALITY_TITLES.get(name, name) for name in pair.split("|")),
            *(_rounded(s[key]) for key in _SCORES),
            _rounded(run["likeness"]),
        ]
        for run in runs
        for pair, s in run["pairs"].items()
    ]
    header = ["seed" if len(set(seeds)) == len(seeds) else "run", "pair", *_SCORES.values(), "like the other seeds"]
    return table(header, rows, numeric=range(2, len(header)))


def _rounded(value: float | None) -> str:
    """A score as it is shown; JSON has null for what is not finite."""
    return "–" if value is None else f"{value:.3f}"

"""The few numbers that tell whether an integration worked, over all seeds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from scmodal.contracts import MODALITY_TITLES
from scmodal.plots import TWO_LN_TWO
from scmodal.report.page import direction_title, table
from scmodal.report.reading import ReportData


@dataclass
class KeyNumber:
    """One number: its mean over the seeds, each seed's value, and what it would be by chance."""

    key: str
    name: str
    values: list[float]
    note: str
    digits: int = 2

    @property
    def mean(self) -> float:
        """Mean over the seeds that have a value."""
        return float(np.mean(self.values))

    @property
    def text(self) -> str:
        """Mean, rounded."""
        return f"{self.mean:.{self.digits}f}"

    @property
    def spread(self) -> str:
        """Range over the seeds; empty for a single one."""
        if len(self.values) < 2:
            return ""
        return f"{min(self.values):.{self.digits}f}–{max(self.values):.{self.digits}f} over {len(self.values)} seeds"


def key_numbers(data: ReportData) -> list[KeyNumber]:
    """Label transfer, FOSCTTM, imputation and mixing, as far as they were evaluated.

    Without any evaluation: how far the discriminator was fooled at the end of training, and the median confidence
    of transferred labels.
    """
    found: list[KeyNumber] = []
    for direction, entries in _collect(data.evaluations, "label_transfer").items():
        source, target = direction.split("_to_")
        accuracy = _numbers(entries, "accuracy")
        if accuracy:
            notes = []
            commonest = _commonest(data, target)
            if commonest is not None:
                notes.append(f"always the commonest label: {commonest:.2f}")
            f1 = _numbers(entries, "macro_f1")
            if f1:
                notes.append(f"macro-F1 {np.mean(f1):.2f}")
            name = f"label accuracy {direction_title(source, target)}"
            found.append(KeyNumber(f"accuracy_{direction}", name, accuracy, "; ".join(notes)))
    for key, values in _collect(data.evaluations, "foscttm").items():
        note = "cells closer than the true partner: 0 perfect, 0.5 chance"
        ratio = _plain([(e.get("matching_distance") or {}).get(key) for e in data.evaluations])
        if ratio:
            note += f"; matching distance {np.mean(ratio):.2f} (1 chance)"
        if not {tuple(key.split("|")), tuple(reversed(key.split("|")))} & set(data.matched):
            note += "; matched through another modality only"
        found.append(KeyNumber(f"foscttm_{_flat(key)}", f"FOSCTTM{_of(data, key)}", _plain(values), note, 3))
    for direction, entries in _collect(data.evaluations, "imputation").items():
        source, target = direction.split("_to_")
        r = _numbers(entries, "pearson_mean")
        if r:
            n = int(entries[0].get("n_features") or 0)
            note = f"mean Pearson r of {n:,} features; 1 perfect, 0 chance" if n else "mean Pearson r"
            found.append(
                KeyNumber(f"imputation_{direction}", f"imputation r {direction_title(source, target)}", r, note)
            )
    for key, values in _collect(data.evaluations, "neighbour_mixing").items():
        note = "of each cell's neighbours: 1 fully mixed, 0 apart"
        found.append(KeyNumber(f"mixing_{_flat(key)}", f"neighbour mixing{_of(data, key)}", _plain(values), note))
    if not data.evaluations:
        mixing = [final_mixing(run.history, data.n_pairs_of_modalities) for run in data.runs]
        mixing = [m for m in mixing if math.isfinite(m)]
        if mixing:
            note = "discriminator loss / (2 ln 2): 1 cannot tell the modalities apart, 0 always can"
            found.append(KeyNumber("discriminator_mixing", "discriminator mixing", mixing, note))
        for (source, target), labels in data.transfers.items():
            confidence = labels["confidence"].median()
            if math.isfinite(confidence):
                name = f"label confidence {direction_title(source, target)}"
                found.append(KeyNumber(f"confidence_{source}_to_{target}", name, [float(confidence)], "median; 1 sure"))
    return [k for k in found if k.values]


def seeds_table(data: ReportData, numbers: Sequence[KeyNumber]) -> Markup:
    """Every seed's own numbers; empty unless there are several seeds."""
    if len(data.evaluations) < 2:
        return Markup("")
    seeds = [e.get("seed") for e in data.evaluations]
    rows = []
    for k in numbers:
        values = k.values if len(k.values) == len(seeds) else [math.nan] * len(seeds)
        rows.append([k.name, *["–" if math.isnan(v) else f"{v:.{k.digits}f}" for v in values]])
    header = ["", *[f"seed {s}" if s is not None else f"run {i + 1}" for i, s in enumerate(seeds)]]
    return table(header, rows, numeric=range(1, len(header)))


def final_mixing(history: Any, n_pairs: int) -> float:
    """Mean discriminator loss of the last 50 steps over its value under full mixing; NaN where none is recorded."""
    if "loss_discriminator" not in history or len(history) == 0:
        return math.nan
    return float(history["loss_discriminator"].tail(50).mean() / (TWO_LN_TWO * n_pairs))


def _collect(evaluations: Sequence[dict[str, Any]], key: str) -> dict[str, list[Any]]:
    """The entries of all seeds by pair or direction."""
    found: dict[str, list[Any]] = {}
    for evaluation in evaluations:
        for name, entry in (evaluation.get(key) or {}).items():
            found.setdefault(name, []).append(entry)
    return found


def _plain(values: Sequence[Any]) -> list[float]:
    return [float(v) for v in values if v is not None and math.isfinite(float(v))]


def _numbers(entries: Sequence[dict[str, Any]], key: str) -> list[float]:
    return _plain([e.get(key) for e in entries])


def _flat(pair: str) -> str:
    return pair.replace("|", "_")


def _of(data: ReportData, pair: str) -> str:
    """Which pair is meant; empty where there is only one."""
    if len(data.modalities) < 3:
        return ""
    return " " + " – ".join(MODALITY_TITLES.get(m, m) for m in pair.split("|"))


def _commonest(data: ReportData, target: str) -> float | None:
    """Accuracy of giving every cell the commonest label."""
    labels = data.labels(data.modality(target)) if target in {m.name for m in data.modalities} else None
    counts = Counter(v for v in labels if v) if labels is not None else None
    return counts.most_common(1)[0][1] / counts.total() if counts else None

#!/usr/bin/env python
"""Label transfer on published paired data: is the confidence true, and are cells without a counterpart found.

    python benchmarks/transfer.py --data ../shared/data                  # all of it, some hour on two cores
    python benchmarks/transfer.py --only hao_pbmc_cite --seeds 1         # one data set, one seed
    python benchmarks/transfer.py --only dropped                         # one population after another left out

Two questions. With all cells, both ways: the accuracy of the transferred labels, the expected calibration error of
their confidence and of the plain share of the votes, and how many cells would be called unknown. With a population
left out of the reference: which part of it is called unknown, and which part of the unknown belongs to it. This is told
from the match before training, so nothing is trained for it.
True labels of the query are used by this evaluation alone. Parts that are already in the JSON with the same number of
steps are not run again unless `--again` is given; `--latents` keeps what was trained. `python benchmarks/tables.py`
then puts the table into the documentation.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import driving
import numpy as np

HERE = Path(__file__).resolve().parent
UNKNOWN = 0.7
"""Counterpart below which a cell is called unknown here."""

LEAST = 0.05
"""Share of the cells that a population must have to be left out."""

COARSE = {"cite_pbmc10k": "cell_type_l1"}
"""Coarser labels of a data set, for the hierarchy."""


@dataclass(frozen=True)
class Part:
    """One training: a data set and a seed."""

    data_set: str
    seed: int

    @property
    def name(self) -> str:
        """Key in the JSON."""
        return f"{self.data_set}:{self.seed}"


def train(part: Part, data: Path, threads: int, path: Path, changes: dict[str, Any]) -> None:
    """Integrate and write the latents and labels of both modalities."""
    from quality import DATA_SETS, prepared

    from scmodal.links import build_links
    from scmodal.model import ScModal

    key = DATA_SETS[part.data_set].label_key
    adatas = prepared(part.data_set, data)
    links, _ = build_links(adatas)
    model = ScModal("default", seed=part.seed, device="cpu", threads=threads, **changes).fit(adatas, links)
    tables: dict[str, Any] = {"steps": np.array(model.preset.steps)}
    for a in adatas:
        name = a.uns["scmodal"]["modality"]
        tables[f"z_{name}"] = model.embed(modality=name)
        tables[f"redrawn_{name}"] = model.redrawn[name]
        tables[f"counterpart_{name}"] = next(iter(model.counterparts[name].values()))
        tables[f"l_{name}"] = _text(a.obs[key])
        if part.data_set in COARSE:
            tables[f"coarse_{name}"] = _text(a.obs[COARSE[part.data_set]])
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **tables)


def _text(labels: Any) -> np.ndarray:
    from scmodal.transfer import clean_labels

    return clean_labels(labels)[0].astype(str)


def full(tables: Any, source: str, target: str) -> dict[str, Any]:
    """Accuracy, calibration and unknown cells of one direction, all populations on both sides."""
    from scmodal.confidence import calibration_error, reliability
    from scmodal.transfer import UNKNOWN as NAME
    from scmodal.transfer import transfer_labels

    z_ref, labels, z_query, truth = (tables[f"{k}_{m}"] for m in (source, target) for k in ("z", "l"))
    redrawn = (tables[f"redrawn_{source}"], tables[f"redrawn_{target}"])
    known = truth != ""
    share = transfer_labels(z_ref, labels, z_query)
    table = transfer_labels(z_ref, labels, z_query, redrawn=redrawn)
    marked = transfer_labels(z_ref, labels, z_query, counterpart=tables[f"counterpart_{target}"], unknown=UNKNOWN)
    right = (table["label"] == truth).to_numpy()[known]
    kept = (marked["label"] != NAME).to_numpy()[known]
    found = {
        "cells": int(known.sum()),
        "accuracy": float(right.mean()),
        "mean_confidence": float(table["confidence"][known].mean()),
        "calibration_error": calibration_error(table["confidence"][known], right),
        "calibration_error_share": calibration_error(share["confidence"][known], right),
        "unknown": float(1 - kept.mean()),
        "accuracy_of_the_others": float(right[kept].mean()),
        "reliability": reliability(table["confidence"][known], right).to_dict("records"),
    }
    if f"coarse_{source}" in tables:
        levels = {"coarse": tables[f"coarse_{source}"], "fine": labels}
        nested = transfer_labels(z_ref, levels, z_query, redrawn=redrawn)
        coarse = (nested["label_coarse"] == tables[f"coarse_{target}"]).to_numpy()[known]
        found["hierarchy"] = {
            "accuracy_coarse": float(coarse.mean()),
            "accuracy_fine": float((nested["label"] == truth).to_numpy()[known].mean()),
            "calibration_error_coarse": calibration_error(nested["confidence_coarse"][known], coarse),
        }
    return found


def without(data_set: str, data: Path) -> dict[str, dict[str, Any]]:
    """How well cells of a population that the reference lacks are found, for every larger population and both sides."""
    from quality import DATA_SETS, prepared

    from scmodal.inputs import build_inputs
    from scmodal.links import build_links
    from scmodal.presets import get_preset

    adatas = prepared(data_set, data)
    labels = [_text(a.obs[DATA_SETS[data_set].label_key]) for a in adatas]
    kinds, counts = np.unique(labels[0][labels[0] != ""], return_counts=True)
    found = {}
    for side in (0, 1):
        for kind in kinds[counts >= LEAST * counts.sum()]:
            given = list(adatas)
            given[side] = adatas[side][labels[side] != kind].copy()
            inputs = build_inputs(given, build_links(given)[0], get_preset("default"))
            called = inputs[1 - side].counterpart[0] < UNKNOWN
            missing = labels[1 - side] == kind
            both = int((called & missing).sum())
            found[f"{data_set}:{adatas[side].uns['scmodal']['modality']} without {kind}"] = {
                "cells": len(missing),
                "missing": int(missing.sum()),
                "called_unknown": int(called.sum()),
                "precision": both / int(called.sum()) if called.any() else None,
                "recall": both / int(missing.sum()),
            }
    return found


def measure(part: Part, data: Path, threads: int, latents: Path, changes: dict[str, Any]) -> dict[str, Any]:
    """Train, unless the latents are there, and evaluate."""
    settings = ".".join(f"{name}-{value}" for name, value in changes.items()) or "all"
    path = latents / f"{part.name.replace(':', '.')}.{settings}.npz"
    if not path.exists():
        train(part, data, threads, path, changes)
    with np.load(path) as stored:
        tables = dict(stored)
    names = [key[2:] for key in tables if key.startswith("z_")]
    return {"steps": int(tables["steps"])} | {f"{a}_to_{b}": full(tables, a, b) for a, b in (names, names[::-1])}


def main() -> None:
    """Run what is asked for and write the JSON after every part."""
    parser = driving.command_line(__doc__, HERE / "transfer.json")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="fewer steps than the preset's, for a quick look")
    parser.add_argument("--only", nargs="*", help="data sets, or `dropped`")
    parser.add_argument("--again", action="store_true", help="run parts that are already in the output")
    parser.add_argument("--latents", type=Path, help="folder that keeps the trained latents")
    options = driving.parsed(parser)

    from scmodal.io import write_json
    from scmodal.presets import get_preset

    results = driving.earlier_results(options, "full", "dropped") | {"unknown_above": UNKNOWN}
    steps = options.steps or get_preset("default").steps
    data_sets = ("hao_pbmc_cite", "cite_pbmc10k", "snare_cortex")
    driving.check_known(options.only, [*data_sets, "dropped"])
    with tempfile.TemporaryDirectory() as scratch:
        for part in (Part(name, seed) for seed in range(options.seeds) for name in data_sets):
            rows = results["full"]
            known = not options.again and rows.get(part.name, {}).get("steps") == steps
            if known or (options.only and part.data_set not in options.only):
                continue
            changes = driving.changes(options) | ({"steps": options.steps} if options.steps else {})
            given = (part, options.data, options.threads, options.latents or Path(scratch), changes)
            rows[part.name] = driving.apart(measure, *given)
            print(part.name, _brief(rows[part.name]), flush=True)
            write_json(results, options.output)
    for name in data_sets:
        known = not options.again and any(key.split(":")[0] == name for key in results["dropped"])
        if known or (options.only and "dropped" not in options.only):
            continue
        results["dropped"] |= driving.apart(without, name, options.data)
        write_json(results, options.output)


def _brief(row: dict[str, Any]) -> dict[str, Any]:
    """Without the bins."""
    return {k: {n: v for n, v in x.items() if n != "reliability"} if isinstance(x, dict) else x for k, x in row.items()}


if __name__ == "__main__":
    with driving.surroundings():
        main()

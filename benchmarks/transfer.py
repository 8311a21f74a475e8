#!/usr/bin/env python
"""Label transfer on published paired data: is the confidence true, and are cells without a counterpart found.

    python benchmarks/transfer.py --data ../shared/data                  # all of it, some hour on two cores
    python benchmarks/transfer.py --only hao_pbmc_cite --seeds 1         # one data set, one seed
    python benchmarks/transfer.py --only dropped                         # one population after another left out

Two questions. With all cells, both ways: the accuracy of the transferred labels, the expected calibration error of
their confidence and of the plain share of the votes, and how many cells would be called unknown. With a population
left out of the reference before training: which part of it is called unknown, and which part of the unknown belongs
to it.
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
UNKNOWN = 0.8
"""Novelty above which a cell is called unknown here."""

COARSE = {"cite_pbmc10k": "cell_type_l1"}
"""Coarser labels of a data set, for the hierarchy."""

DROPPED = ("B", "NK", "Mono", "CD8 T")
"""Populations of `hao_pbmc_cite` that are left out of the reference, one after the other."""


@dataclass(frozen=True)
class Part:
    """One training: a data set and a seed, and the population that the reference lacks."""

    data_set: str
    seed: int
    reference: str = ""
    dropped: str = ""

    @property
    def name(self) -> str:
        """Key in the JSON and, without spaces, name of the file with the latents."""
        left_out = f":{self.reference} without {self.dropped}" if self.dropped else ""
        return f"{self.data_set}:{self.seed}{left_out}"


def train(part: Part, data: Path, steps: int | None, threads: int, path: Path) -> None:
    """Integrate and write the latents and labels of both modalities."""
    from quality import DATA_SETS, prepared

    from scmodal.links import build_links
    from scmodal.model import ScModal

    key = DATA_SETS[part.data_set].label_key
    adatas = prepared(part.data_set, data)
    if part.dropped:
        adatas = [
            a[a.obs[key].astype(str) != part.dropped].copy() if a.uns["scmodal"]["modality"] == part.reference else a
            for a in adatas
        ]
    links, _ = build_links(adatas)
    changes = {} if steps is None else {"steps": steps}
    model = ScModal("default", seed=part.seed, device="cpu", threads=threads, **changes).fit(adatas, links)
    tables: dict[str, Any] = {"steps": np.array(model.preset.steps)}
    for a in adatas:
        name = a.uns["scmodal"]["modality"]
        tables[f"z_{name}"] = model.embed(modality=name)
        tables[f"redrawn_{name}"] = model.redrawn[name]
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
    marked = transfer_labels(z_ref, labels, z_query, unknown=UNKNOWN)
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


def without(tables: Any, source: str, target: str, dropped: str) -> dict[str, Any]:
    """How well cells of a population that the reference lacks are found."""
    from scmodal.transfer import UNKNOWN as NAME
    from scmodal.transfer import transfer_labels

    z_ref, labels, z_query, truth = (tables[f"{k}_{m}"] for m in (source, target) for k in ("z", "l"))
    called = (transfer_labels(z_ref, labels, z_query, unknown=UNKNOWN)["label"] == NAME).to_numpy()
    missing = truth == dropped
    both = int((called & missing).sum())
    return {
        "cells": len(truth),
        "missing": int(missing.sum()),
        "called_unknown": int(called.sum()),
        "precision": both / int(called.sum()) if called.any() else None,
        "recall": both / int(missing.sum()),
    }


def measure(part: Part, data: Path, steps: int | None, threads: int, latents: Path) -> dict[str, Any]:
    """Train, unless the latents are there, and evaluate."""
    named = part.name.replace(":", ".").replace(" ", "-")
    path = latents / f"{named}.{'all' if steps is None else steps}.npz"
    if not path.exists():
        train(part, data, steps, threads, path)
    with np.load(path) as stored:
        tables = dict(stored)
    names = [key[2:] for key in tables if key.startswith("z_")]
    row: dict[str, Any] = {"steps": int(tables["steps"])}
    if part.dropped:
        target = next(name for name in names if name != part.reference)
        return row | without(tables, part.reference, target, part.dropped)
    return row | {f"{a}_to_{b}": full(tables, a, b) for a, b in (names, names[::-1])}


def parts(seeds: int, only: list[str] | None) -> list[Part]:
    """Everything that is asked for."""
    wanted = [Part(name, s) for s in range(seeds) for name in ("hao_pbmc_cite", "cite_pbmc10k", "snare_cortex")]
    wanted = [part for part in wanted if not only or part.data_set in only]
    if not only or "dropped" in only:
        wanted += [Part("hao_pbmc_cite", 0, side, kind) for side in ("rna", "protein") for kind in DROPPED]
    return wanted


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
    with tempfile.TemporaryDirectory() as scratch:
        for part in parts(options.seeds, options.only):
            rows = results["dropped" if part.dropped else "full"]
            if not options.again and rows.get(part.name, {}).get("steps") == steps:
                continue
            given = (part, options.data, options.steps, options.threads, options.latents or Path(scratch))
            rows[part.name] = driving.apart(measure, *given)
            print(part.name, _brief(rows[part.name]), flush=True)
            write_json(results, options.output)


def _brief(row: dict[str, Any]) -> dict[str, Any]:
    """Without the bins."""
    return {k: {n: v for n, v in x.items() if n != "reliability"} if isinstance(x, dict) else x for k, x in row.items()}


if __name__ == "__main__":
    with driving.surroundings():
        main()

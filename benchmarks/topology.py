#!/usr/bin/env python
"""Three data sets under the three topologies: label transfer, FOSCTTM and imputation between every two of them.

    python benchmarks/topology.py      # about four minutes on two cores

The data are simulated (RNA, protein and cytometry of the same cells; the pairing is hidden from training), so that the
truth is known for every pair, matched directly or not. `python benchmarks/tables.py` puts the table into the
documentation.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import driving
import numpy as np
from quality import summarise

HERE = Path(__file__).resolve().parent
SIZE = {"n_cells": 400, "n_genes": 300, "n_proteins": 40, "n_cell_types": 6, "n_markers": 24}
TRAINING = {"steps": 300, "batch_size": 150}
SETTINGS = {
    "chain": ("chain", ("rna", "protein", "cytometry")),
    "star": ("star", ("rna", "protein", "cytometry")),
    "all": ("all", ("rna", "protein", "cytometry")),
    "chain, another order": ("chain", ("protein", "rna", "cytometry")),
}
"""Topology and order of the data sets of each row of the table."""


def measure(setting: str, seed: int, threads: int) -> dict[str, Any]:
    """Train once on data of their own seed and evaluate; every number of one seed."""
    from scmodal import preprocess
    from scmodal.metrics import evaluate
    from scmodal.model import ScModal
    from scmodal.results import integrated_data
    from scmodal.simulate import simulate

    mdata = simulate(**SIZE, seed=seed)
    topology, order = SETTINGS[setting]
    adatas = [getattr(preprocess, name)(mdata[name], label_key="cell_type") for name in order]
    model = ScModal("default", seed=seed, device="cpu", threads=threads, topology=topology, **TRAINING).fit(adatas)
    result = evaluate(integrated_data(model, adatas), paired=True, model=model, seed=seed)
    row: dict[str, Any] = {"seed": seed}
    for pair, value in result["foscttm"].items():
        a, b = pair.split("|")
        name = "|".join(sorted((a, b)))
        row[f"foscttm {name}"] = value
        for key, number in (("label_transfer", "accuracy"), ("imputation", "pearson_mean")):
            both = [result[key][f"{x}_to_{y}"][number] for x, y in ((a, b), (b, a))]
            row[f"{number.removesuffix('_mean')} {name}"] = float(np.mean(both))
    return row


def main() -> None:
    """Run every setting over the seeds and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=HERE / "topology.json")
    options = parser.parse_args()

    from scmodal.io import write_json
    from scmodal.model import software_versions

    settings: dict[str, Any] = {}
    for setting, (topology, order) in SETTINGS.items():
        seeds = [measure(setting, seed, options.threads) for seed in range(options.seeds)]
        summary = summarise(seeds)
        print(setting, {key: round(entry["mean"], 3) for key, entry in summary.items()}, flush=True)
        settings[setting] = {"topology": topology, "order": order, "summary": summary, "seeds": seeds}
    results = {
        "simulation": SIZE,
        "training": TRAINING,
        "settings": settings,
        "machine": driving.machine() | {"threads": options.threads},
        "versions": software_versions(),
    }
    write_json(results, options.output)


if __name__ == "__main__":
    with driving.surroundings():
        main()

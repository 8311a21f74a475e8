#!/usr/bin/env python
"""How well a trained model serves cells that it has not seen, beside those it was trained on.

    python benchmarks/heldout.py --data ../shared/data --seeds 3      # half an hour on two cores

A fifth of the cells that both data sets have is drawn at random and taken out of both. Preset `default` is trained on
the rest; then the cells that were taken out are put into the latent space and their other modality is imputed. The
same is measured on as many of the training cells. (Preparation, which knows nothing of pairs, has seen all cells.)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import driving
import numpy as np
from quality import PUBLISHED_PAIRS, prepared, summarise

HERE = Path(__file__).resolve().parent
SHARE = 0.2


def run(name: str, seed: int, data: Path, threads: int, changes: dict[str, str]) -> dict[str, Any]:
    """Train once without some cells; every number of one seed."""
    from scmodal.model import ScModal

    model = ScModal("default", seed=seed, device="cpu", threads=threads, **changes)
    return measure(prepared(name, data), model, seed)


def measure(adatas: list[Any], model: Any, seed: int) -> dict[str, Any]:
    """Train a model on four fifths of the cells that both data sets have, and on all that one of them has alone.

    Returns the numbers of the cells left out and, with ``_trained``, those of as many others.
    """
    rng = np.random.default_rng(seed)
    names = adatas[0].obs_names.intersection(adatas[1].obs_names)
    order = rng.permutation(len(names))
    size = round(SHARE * len(names))
    held_out, trained = names[np.sort(order[:size])], names[np.sort(order[size : 2 * size])]
    training = [adata[~adata.obs_names.isin(held_out)].copy() for adata in adatas]
    model.fit(training)
    row: dict[str, Any] = {"seed": seed, "cells": size, "training_cells": sum(adata.n_obs for adata in training)}
    for suffix, cells in (("", held_out), ("_trained", trained)):
        row |= {key + suffix: value for key, value in on_cells(model, adatas, training, cells).items()}
    return row


def on_cells(model: Any, adatas: list[Any], training: list[Any], cells: Any) -> dict[str, float]:
    """FOSCTTM among some paired cells, and, both ways, imputation and the label of the nearest other training cell."""
    from scmodal.metrics import foscttm, imputation_pearson
    from scmodal.neighbours import nearest_neighbours
    from scmodal.transfer import clean_labels

    own = [adata[cells].copy() for adata in adatas]
    names = [adata.uns["scmodal"]["modality"] for adata in adatas]
    z = [model.embed(adata, name) for adata, name in zip(own, names)]
    found = {"foscttm": foscttm(*z)}
    for way, source, target in (("from_rna", 0, 1), ("to_rna", 1, 0)):
        imputed = model.impute(names[source], names[target], own[source]).layers["scaled"]
        found[f"r_{way}"] = float(np.nanmean(imputation_pearson(imputed, model.scaled(own[target])[0])))
        # labels are carried the same way; the reference has the partners of neither kind of cells
        labels, present = clean_labels(training[source].obs[label_key(training[source])])
        usable = present & ~training[source].obs_names.isin(cells)
        true, labelled = clean_labels(own[target].obs[label_key(own[target])])
        reference = model.embed(modality=names[source])[usable]
        nearest, _ = nearest_neighbours(reference, z[target][labelled], 1)
        found[f"accuracy_{way}"] = float((labels[usable][nearest[:, 0]] == true[labelled]).mean())
    return found


def label_key(adata: Any) -> str:
    """Column of the labels that preparation was told of."""
    return str(adata.uns["scmodal"]["label_key"])


def main() -> None:
    """Run what is asked for and write the JSON after every seed."""
    parser = driving.command_line(__doc__, HERE / "heldout.json")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="data sets")
    parser.add_argument("--again", action="store_true", help="run data sets that are already in the output")
    options = driving.parsed(parser)
    driving.check_known(options.only, list(PUBLISHED_PAIRS))

    from scmodal.io import write_json

    results = driving.earlier_results(options, "data_sets")
    for name in options.only or PUBLISHED_PAIRS:

        def one(seed: int, name: str = name) -> dict[str, Any]:
            row = driving.apart(run, name, seed, options.data, options.threads, driving.changes(options))
            print(name, {k: round(v, 3) for k, v in row.items()}, flush=True)
            return row

        old = results["data_sets"].get(name, {}).get("seeds", [])
        for seeds in driving.lacking_seeds(old, options.seeds, options.again, one):
            results["data_sets"][name] = {"summary": summarise(seeds), "seeds": seeds}
            write_json(results, options.output)


if __name__ == "__main__":
    with driving.surroundings():
        main()

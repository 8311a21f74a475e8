#!/usr/bin/env python
"""Does the verdict tell data with a shared signal from data without? Over many seeds, without a look at the pairing.

    python benchmarks/verdict.py --data FOLDER      # some hours on two cores; simulated data alone without --data
    python benchmarks/verdict.py --data FOLDER --only cite_pbmc10k:full --seeds 5

Good: simulated CITE-seq (each seed other cells), and the published pairs under `--data`. Bad: the same with links that
pair features at random, and two simulated tissues without anything in common under the same names. The verdict is that
of `scmodal select` on a short training; `full` is that of the published pairs after all steps. Results:
benchmarks/verdict.json; parts that are there are not run again.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

import driving
import numpy as np
from quality import PUBLISHED_PAIRS, prepared

HERE = Path(__file__).resolve().parent
STEPS = 200
"""Of training: the start from matched coordinates leaves little to do, and random links do not become good later."""


def simulated(seed: int, other_tissue: bool = False) -> list[Any]:
    """Prepared RNA and protein of one simulated tissue, or the protein of another under the names of the first."""
    from scmodal import preprocess
    from scmodal.simulate import simulate

    mdata = simulate(n_cells=600, n_genes=400, n_proteins=50, n_cell_types=6, paired=False, seed=seed)
    protein = mdata["protein"]
    if other_tissue:
        # another seed draws other loadings and cell types, so that a name means something else
        protein = simulate(
            n_cells=600, n_genes=400, n_proteins=50, n_cell_types=6, paired=False, link_strength=0.0, seed=seed + 1000
        )["protein"]
        order = np.random.default_rng(seed).permutation(protein.n_vars)
        names = protein.var_names
        protein = protein[:, order].copy()
        protein.var_names = names
    return [preprocess.rna(mdata["rna"], label_key="cell_type"), preprocess.protein(protein, label_key="cell_type")]


def verdict_of(adatas: list[Any], seed: int, threads: int, shuffle: bool, **changes: Any) -> dict[str, Any]:
    """Train (with some settings changed) and judge."""
    from scmodal.links import LinkTable, build_links
    from scmodal.model import ScModal
    from scmodal.select import as_json, choose, gather

    links, _ = build_links(adatas)
    if shuffle:
        frame = links.frame.copy()
        frame["feature_b"] = np.random.default_rng(seed).permutation(frame["feature_b"].to_numpy())
        links = LinkTable(frame)
    model = ScModal(seed=seed, device="cpu", threads=threads, **changes).fit(adatas, links)
    evidence = gather(adatas, links, model.preset.topology)
    found = as_json(choose(evidence, [seed], [[model.embed(modality=name) for name in model.modalities]]))
    return {
        "seed": seed,
        "verdict": found["verdict"],
        **{f"links_{key}": value for key, value in next(iter(found["links"].values())).items()},
        **next(iter(found["runs"][0]["pairs"].values())),
    }


def main() -> None:
    """Run what is lacking and write the JSON after every verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", help="DATA:links, DATA:random, DATA:full or simulated:unrelated")
    parser.add_argument("--output", type=Path, default=HERE / "verdict.json")
    driving.add_settings(parser)
    options = parser.parse_args()

    from scmodal.io import write_json

    kinds = {"simulated": ("links", "random", "unrelated")}
    settings = [
        f"{name}:{kind}"
        for name in ("simulated", *PUBLISHED_PAIRS)
        for kind in kinds.get(name, ("links", "full", "random"))
    ]
    driving.check_known(options.only, settings)
    results = driving.earlier_results(options, "settings") | {"steps": STEPS}
    for setting in settings:
        if options.only and setting not in options.only:
            continue
        name, kind = setting.split(":")
        if name != "simulated" and options.data is None:
            continue
        adatas = prepared(name, options.data) if name != "simulated" else None

        def one(seed: int, name: str = name, kind: str = kind, adatas: Any = adatas) -> dict[str, Any]:
            steps = None if kind == "full" else STEPS
            data = adatas if adatas is not None else simulated(seed, other_tissue=kind == "unrelated")
            changes = driving.changes(options) | {"steps": steps}
            row = verdict_of(data, seed, options.threads, shuffle=kind == "random", **changes)
            print(f"{name}:{kind}", row, flush=True)
            return row

        old = results["settings"].get(setting, {}).get("seeds", [])
        for rows in driving.lacking_seeds(old, options.seeds, False, one):
            counts = Counter(row["verdict"] for row in rows)
            known = results["settings"] | {setting: {"verdicts": dict(sorted(counts.items())), "seeds": rows}}
            results["settings"] = {name: known[name] for name in settings if name in known}
            write_json(results, options.output)


if __name__ == "__main__":
    with driving.surroundings():
        main()

#!/usr/bin/env python
"""Mixing of modalities and conservation of labels, by scib-metrics, on the published pairs.

    python benchmarks/mixing.py --data ../shared/data      # half an hour on two cores

One seed of presets `default` and `paper` (with as many steps as in quality.py) and of those other methods that take
seconds; the scores are those of `scmodal evaluate --scib`. Parts that are already in the JSON are not run again unless
`--again` is given.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import driving
import numpy as np
import peers
import quality

HERE = Path(__file__).resolve().parent
PRESETS = ("default", "paper")
QUICK = ("linked", "harmony", "seurat_cca")
KEYS = [f"{data_set}:{name}" for data_set in quality.PUBLISHED_PAIRS for name in (*PRESETS, *QUICK)]


def scored(adatas: list[Any], latents: list[np.ndarray]) -> dict[str, float]:
    """Scores of one space of all cells of both data sets."""
    from scmodal.scib import scib_scores
    from scmodal.transfer import clean_labels

    names = [adata.uns["scmodal"]["modality"] for adata in adatas]
    labels = [clean_labels(adata.obs[adata.uns["scmodal"]["label_key"]])[0] for adata in adatas]
    return scib_scores(dict(zip(names, latents)), dict(zip(names, labels)))


def of_preset(data_set: str, preset: str, data: Path, threads: int, changes: dict[str, str]) -> dict[str, float]:
    """Train seed 0 of a preset."""
    from scmodal.model import ScModal

    setting = next(s for s in quality.SETTINGS if (s.data_set, s.preset, s.variant) == (data_set, preset, ""))
    adatas = quality.prepared(data_set, data)
    model = ScModal(preset, seed=0, device="cpu", threads=threads, **(setting.changes | changes)).fit(adatas)
    return scored(adatas, [model.embed(modality=name) for name in model.modalities])


def of_peer(data_set: str, name: str, options: Any) -> dict[str, float]:
    """Run seed 0 of another method."""
    interpreter = peers.environment(name, options.environments, None)
    prepared = peers.prepare(data_set, options.data)
    runner = HERE / "peers" / f"run_{name}.py"
    run = peers.run_peer(prepared, interpreter, runner, 0, options.threads, 3600)
    return scored(prepared.adatas, run.latents)


def main() -> None:
    """Run what is asked for and write the JSON after every part."""
    parser = driving.command_line(__doc__, HERE / "mixing.json")
    parser.add_argument("--only", nargs="*", help="DATA_SET:PRESET or DATA_SET:METHOD, several")
    parser.add_argument("--again", action="store_true", help="run parts that are already in the output")
    parser.add_argument("--environments", type=Path, default=peers.default_environments(), help="of the other methods")
    options = driving.parsed(parser)
    driving.check_known(options.only, KEYS)

    from scmodal.io import write_json

    results = driving.earlier_results(options, "settings")
    for key in options.only or KEYS:
        if key in results["settings"] and not options.again:
            continue
        data_set, name = key.split(":")
        if name in PRESETS:
            changes = driving.changes(options) if name == "default" else {}
            found = driving.apart(of_preset, data_set, name, options.data, options.threads, changes)
        else:
            found = of_peer(data_set, name, options)
        print(key, {k: round(v, 3) for k, v in found.items()}, flush=True)
        known = results["settings"] | {key: found}
        results["settings"] = {k: known[k] for k in KEYS if k in known}
        write_json(results, options.output)


if __name__ == "__main__":
    with driving.surroundings():
        main()

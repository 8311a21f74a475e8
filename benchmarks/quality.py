#!/usr/bin/env python
"""Quality of the presets on published and simulated data: label transfer, FOSCTTM and imputation over several seeds.

    python benchmarks/quality.py --data ../shared/data            # all of it, some two hours on two cores
    python benchmarks/quality.py --only hao_pbmc_cite:default     # one part

Every part goes through the functions of the command line: preprocess, link, fit, evaluate. The pairing of the cells,
where there is one, is hidden from training and used by the evaluation alone. Each seed runs in a process of its own,
whose time and peak memory stand beside its numbers. Parts that are already in the JSON are not run again unless
`--again` is given. `python benchmarks/tables.py` then puts the table into the documentation.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import driving
import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class DataSet:
    """Files of a data set (below the data folder), its second modality and its label column."""

    rna: str
    other: str
    modality: str
    label_key: str
    genes: str | None = None
    """BED of the genes, for chromatin."""
    cells: Callable[[Path], pd.DataFrame] | None = None
    """From the data folder: the cells of a fragments file, with their labels."""
    simulate: Callable[[Path], None] | None = None
    """Writes the files; they are then sought in the folder that it is given."""


@dataclass(frozen=True)
class Setting:
    """One row of the table."""

    data_set: str
    preset: str
    changes: dict[str, Any]
    variant: str = ""

    @property
    def name(self) -> str:
        """Name under which it is selected and stored."""
        return f"{self.data_set}:{self.preset}{'-' if self.variant else ''}{self.variant}"


def archr_cells(data: Path) -> pd.DataFrame:
    """Barcodes of the fragments of `archr_pbmc_tiny`, each begins with the population of its cell."""
    fragments = pd.read_csv(data / "archr_pbmc_tiny" / "PBSmall.tsv.gz", sep="\t", header=None, usecols=[3])
    barcodes = fragments.iloc[:, 0].drop_duplicates()
    names = {"B": "B", "T": "T", "M": "Monocyte"}  # as the RNA cells' labels
    return pd.DataFrame({"barcode": barcodes, "cell_type": barcodes.str[0].map(names)})


def simulate_cite(folder: Path) -> None:
    """RNA and proteins of the same simulated cells."""
    from scmodal.simulate import simulate, write_simulation

    write_simulation(simulate(n_cells=2000, n_batches=1, seed=0), folder)


def simulate_multiome(folder: Path) -> None:
    """RNA and chromatin of the same simulated cells."""
    from scmodal.simulate_atac import simulate_atac, write_atac_simulation

    write_atac_simulation(simulate_atac(n_cells=2000, seed=0), folder)


DATA_SETS = {
    "hao_pbmc_cite": DataSet(
        "hao_pbmc_cite/quickstart_pbmc_mosaic.h5mu", "hao_pbmc_cite/quickstart_pbmc_mosaic.h5mu", "protein", "celltype"
    ),
    "cite_pbmc10k": DataSet("cite_pbmc10k/rna.h5ad", "cite_pbmc10k/adt.h5ad", "protein", "cell_type_l2"),
    "snare_cortex": DataSet(
        "snare_cortex/rna.h5ad", "snare_cortex/atac.h5ad", "atac", "cell_type", genes="genes/mm10_genes.bed"
    ),
    "archr_pbmc_tiny": DataSet(
        "archr_pbmc_tiny/rna.h5ad",
        "archr_pbmc_tiny/PBSmall.tsv.gz",
        "atac",
        "cell_type",
        genes="genes/hg19_genes.bed",
        cells=archr_cells,
    ),
    "simulated_cite": DataSet("rna.h5ad", "protein.h5ad", "protein", "cell_type", simulate=simulate_cite),
    "simulated_multiome": DataSet(
        "rna.h5ad", "atac.h5ad", "atac", "cell_type", genes="genes.bed", simulate=simulate_multiome
    ),
}
MATCHED_ONCE = {"rematching_every": 0, "weight_anchor": 3.0}
"""Cells matched before training alone, with the weight of anchors that was best then."""
PUBLISHED_PAIRS = ("hao_pbmc_cite", "cite_pbmc10k", "snare_cortex")
"""Real data of which true pairs are known."""
SETTINGS = [
    # about as many steps as preset default does; the published 10,000 are measured by time_to_quality.py
    Setting("hao_pbmc_cite", "paper", {"steps": 1000}),
    Setting("hao_pbmc_cite", "default", {}),
    Setting("cite_pbmc10k", "paper", {"steps": 800}),
    Setting("cite_pbmc10k", "default", {}),
    Setting("snare_cortex", "paper", {"steps": 1000}),
    Setting("snare_cortex", "default", {}),
    Setting("archr_pbmc_tiny", "paper", {"steps": 1000}),
    Setting("archr_pbmc_tiny", "default", {}),
    Setting("simulated_cite", "paper", {"steps": 1000}),
    Setting("simulated_cite", "default", {}),
    Setting("simulated_multiome", "paper", {"steps": 1000}),
    Setting("simulated_multiome", "default", {}),
    # what matching again in training brings
    *(Setting(data_set, "default", MATCHED_ONCE, "matched-once") for data_set in DATA_SETS),
    # what the faster products of preset default cost, and what its other parts bring
    *(
        Setting(data_set, "default", changes, variant)
        for data_set in PUBLISHED_PAIRS
        for variant, changes in (
            ("float32", {"precision": "float32"}),
            ("random-start", {"start_scale": 0.0}),
            ("links-only", {"matching_rounds": 0}),
            ("no-dropout", {"input_dropout": 0.0}),
            ("no-anchors", {"weight_anchor": 0.0}),
            ("no-adversary", {"weight_gan": 0.0}),
            ("100-steps", {"steps": 100}),
        )
    ),
]


def prepared(name: str, data: Path) -> list[Any]:
    """Both prepared modalities of a data set."""
    from scmodal.preprocess import AtacOptions, preprocess_files

    found = DATA_SETS[name]
    with tempfile.TemporaryDirectory() as place:
        cells = None
        if found.simulate:
            data = Path(place)
            found.simulate(data)
        if found.cells:
            cells = Path(place) / "cells.tsv"
            found.cells(data).to_csv(cells, sep="\t", index=False)
        options = AtacOptions(data / found.genes, cells=cells) if found.genes else None
        return [
            preprocess_files([data / found.rna], "rna", found.label_key),
            preprocess_files([data / found.other], found.modality, found.label_key, atac_options=options),
        ]


def paired(adatas: list[Any]) -> bool:
    """Whether some cells are in both data sets."""
    return bool(adatas[0].obs_names.isin(adatas[1].obs_names).any())


def measure(setting: Setting, seed: int, data: Path, threads: int) -> dict[str, Any]:
    """Train once and evaluate; every number of one seed."""
    return judged(prepared(setting.data_set, data), None, setting.preset, seed, threads, setting.changes)[0]


def judged(
    adatas: list[Any],
    links: Any,
    preset: str,
    seed: int,
    threads: int,
    changes: dict[str, Any] | None = None,
    n_null: int = 2,
) -> tuple[dict[str, Any], Any]:
    """Train once on prepared RNA and another modality, with their own links or the given, and evaluate.

    Returns every number of the seed, and what `scmodal select` says of it against `n_null` random pairings of links.
    """
    from scmodal.links import build_links
    from scmodal.metrics import evaluate
    from scmodal.model import ScModal
    from scmodal.results import integrated_data
    from scmodal.select import choose, gather

    other = adatas[1].uns["scmodal"]["modality"]
    links = build_links(adatas)[0] if links is None else links
    started = time.perf_counter()
    model = ScModal(preset, seed=seed, device="cpu", threads=threads, **(changes or {})).fit(adatas, links)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    result = evaluate(integrated_data(model, adatas), paired=paired(adatas), model=model, seed=seed)
    # what can be said without labels and pairs, to see whether it ranks as the truth does
    evidence = gather(adatas, links, model.preset.topology, n_null)
    choice = choose(evidence, [seed], [[model.embed(modality=name) for name in model.modalities]])
    scores = next(iter(choice.scores[0].values()))
    there, back = f"rna_to_{other}", f"{other}_to_rna"
    row = {
        "seed": seed,
        "n_links": len(links),
        "steps": model.preset.steps,
        "batch_size": model.preset.batch_size,
        "seconds": round(seconds, 1),
        "peak_gb": round(peak, 2),
        "accuracy_rna_to_other": result["label_transfer"][there]["accuracy"],
        "accuracy_other_to_rna": result["label_transfer"][back]["accuracy"],
        "macro_f1_rna_to_other": result["label_transfer"][there]["macro_f1"],
        "macro_f1_other_to_rna": result["label_transfer"][back]["macro_f1"],
        **asdict(scores),
    }
    if not paired(adatas):
        return row, choice
    row |= {
        "foscttm": result["foscttm"][f"rna|{other}"],
        "matching_distance": result["matching_distance"][f"rna|{other}"],
        "imputation_r_rna_to_other": result["imputation"][there]["pearson_mean"],
        "imputation_r_other_to_rna": result["imputation"][back]["pearson_mean"],
    }
    for way, (source, target) in (("rna_to_other", adatas), ("other_to_rna", adatas[::-1])):
        row |= {f"{name}_{way}": value for name, value in estimators(model, source, target, links).items()}
    return row, choice


def estimators(model: Any, source: Any, target: Any, links: Any) -> dict[str, float]:
    """Mean correlation with measured values of several ways to impute `target` in paired cells of `source`.

    `r_direct`: the generator at the cell's own place; `r_neighbours`: mean of the measured values of the cells of
    `target` that the model's own way decodes the mean place of; `r_half`: half of both; `r_linked`: the model's own
    way, linked features alone; `r_partner`: of these the linked feature that was measured in `source`. `expected_error`
    and `expected_rank` (Spearman) are of the expected against the measured correlation of every feature.
    """
    from scipy.stats import spearmanr

    from scmodal.metrics import imputation_pearson
    from scmodal.neighbours import nearest_neighbours

    names = [adata.uns["scmodal"]["modality"] for adata in (source, target)]
    z = {name: model.embed(modality=name) for name in names}
    partner = target.obs_names.get_indexer(source.obs_names)
    rows = np.flatnonzero(partner >= 0)
    (own, own_features), (measured, features) = model.scaled(source), model.scaled(target)
    truth = measured[partner[rows]]
    imputed = model.impute(*names)
    here = z[names[0]][rows]
    direct = model.decode(here, names[1], direct=True).scaled
    nearest, _ = nearest_neighbours(z[names[1]], here, model.preset.impute_neighbours or 30)
    neighbours = np.stack([measured[some].mean(0) for some in nearest])
    table = links.between(*names)
    # a preset may use the most variable genes' links alone
    table = table[table["feature_a"].isin(own_features) & table["feature_b"].isin(features)]
    i = np.array([features.index(name) for name in table["feature_b"]])
    j = np.array([own_features.index(name) for name in table["feature_a"]])
    r = imputation_pearson(imputed.layers["scaled"][rows], truth)
    varies = np.isfinite(r)
    expected = imputed.var["expected_r"].to_numpy()
    return {
        "r_direct": float(np.nanmean(imputation_pearson(direct, truth))),
        "r_neighbours": float(np.nanmean(imputation_pearson(neighbours, truth))),
        "r_half": float(np.nanmean(imputation_pearson((direct + neighbours) / 2, truth))),
        "r_linked": float(np.nanmean(r[i])),
        "r_partner": float(np.nanmean(imputation_pearson(own[rows][:, j], truth[:, i]))),
        "expected_error": float(np.abs(expected - r)[varies].mean()),
        "expected_rank": float(spearmanr(expected[varies], r[varies]).statistic),
    }


def summarise(seeds: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean and range of every number over the seeds."""
    return {
        key: {
            "mean": float(np.mean([row[key] for row in seeds])),
            "min": float(np.min([row[key] for row in seeds])),
            "max": float(np.max([row[key] for row in seeds])),
        }
        for key in seeds[-1]
        if key != "seed" and all(key in row for row in seeds)
    }


def main() -> None:
    """Run what is asked for and write the JSON after every seed."""
    parser = driving.command_line(__doc__, HERE / "quality.json")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="DATA_SET:PRESET, several")
    parser.add_argument("--again", action="store_true", help="run parts that are already in the output")
    options = driving.parsed(parser)
    driving.check_known(options.only, [setting.name for setting in SETTINGS])

    from scmodal.io import write_json

    results = driving.earlier_results(options, "settings")
    for setting in SETTINGS:
        if options.only and setting.name not in options.only:
            continue

        def one(seed: int, setting: Setting = setting) -> dict[str, Any]:
            row = driving.apart(measure, setting, seed, options.data, options.threads)
            print(setting.name, {k: round(v, 3) for k, v in row.items()}, flush=True)
            return row

        old = results["settings"].get(setting.name, {}).get("seeds", [])
        for seeds in driving.lacking_seeds(old, options.seeds, options.again, one):
            results["settings"][setting.name] = {"summary": summarise(seeds), "seeds": seeds}
            write_json(results, options.output)


if __name__ == "__main__":
    with driving.surroundings():
        main()

"""Peak-gene links on real cells: what of them is found without the pairing, and from fragments to links.

Mouse cortex (SNARE-seq) has RNA and ATAC of each cell; training is not told which belong together. Every way to rank
the pairs of a gene and a peak near it is compared with the ranking by the expression that was measured in the same
cells. This is done twice: in the same units of cells, where the noise of accessibility is shared by the truth and by
the ways that use these units; and with the cells split in two, the ways that use units seeing one half and the truth
made of the other.

Used by peakgene.py.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parent
TOP = 1000


def run_commands(steps: dict[str, tuple[object, ...]], folder: Path) -> dict[str, dict[str, float]]:
    """Run commands of the command line one after another; those that were run before are not run again.

    Parameters
    ----------
    steps
        Arguments of each command by its name.
    folder
        Where what each took is kept.

    Returns
    -------
    dict
        `seconds` and `cpu_seconds` of each command.
    """
    kept = folder / "seconds.json"
    took: dict[str, dict[str, float]] = json.loads(kept.read_text()) if kept.exists() else {}
    for name, arguments in steps.items():
        if name in took:
            continue
        start = time.monotonic()
        process = subprocess.Popen([sys.executable, "-m", "scmodal.cli", *map(str, arguments)])
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, list(map(str, arguments)))
        took[name] = {
            "seconds": round(time.monotonic() - start, 1),
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        }
        kept.write_text(json.dumps(took))
    return {kind: {name: row[kind] for name, row in took.items()} for kind in ("seconds", "cpu_seconds")}


# ---- mouse cortex ---------------------------------------------------------------------------------------------------


def snare(seed: int, data: Path, folder: Path, options: list[str], glued: Path) -> dict[str, Any]:
    """Links through the unpaired path against those from the true pairs; the scored pairs stay in `folder`.

    Parameters
    ----------
    seed
        Of training.
    data
        Folder of the published data sets.
    folder
        Where the run is kept; what is there already is not done again.
    options
        Of ``scmodal integrate``.
    glued
        Folder of :func:`glue`; without it there, GLUE is left out.
    """
    genes = data / "genes" / "mm10_genes.bed"
    took = _run(seed, data / "snare_cortex", genes, folder, options)
    table = pd.read_parquet(folder / "pairs.parquet") if (folder / "pairs.parquet").exists() else _scored(folder, genes)
    table.to_parquet(folder / "pairs.parquet")
    if (glued / "features.npz").exists():
        table["glue"] = glue_scores(glued, table)
    links = int((table["fdr"] <= 0.05).sum())
    metrics = json.loads((folder / "metrics.json").read_text())
    return {
        "seed": seed,
        "options": options,
        **took,
        "foscttm": next(iter(metrics["foscttm"].values())),
        "accuracy": {way: found["accuracy"] for way, found in metrics["label_transfer"].items()},
        "n_pairs": len(table),
        "n_links": links,
        **agreement(table),
    }


def _run(seed: int, source: Path, genes: Path, folder: Path, options: list[str]) -> dict[str, dict[str, float]]:
    """The commands from files to links, and what each took."""
    folder.mkdir(parents=True, exist_ok=True)
    rna, atac, run = folder / "rna.h5ad", folder / "atac.h5ad", folder / "run"
    both, label = ("--input", rna, "--input", atac), ("--label-key", "cell_type")
    steps: dict[str, tuple[object, ...]] = {
        "preprocess_rna": ("preprocess", "--input", source / "rna.h5ad", "--modality", "rna", *label, "--output", rna),
        "preprocess_atac": (
            *("preprocess", "--input", source / "atac.h5ad", "--modality", "atac", "--genes", genes, *label),
            *("--output", atac),
        ),
        "link": ("link", *both, "--output", folder / "links.tsv"),
        "integrate": (
            *("integrate", *both, "--links", folder / "links.tsv", "--output", run, "--seed", seed, *options),
            "--resume-or-restart",
        ),
        "evaluate": (
            *("evaluate", "--integrated", run / "integrated.h5mu", "--paired", *label),
            *("--output", folder / "metrics.json"),
        ),
        "peakgene": (
            *("peakgene", "--rna", rna, "--atac", atac, "--genes", genes, "--integrated", run / "integrated.h5mu"),
            *("--output", folder / "links", "--paired", "--leave-locus-out"),
        ),
    }
    return run_commands(steps, folder)


def _scored(folder: Path, genes: Path) -> pd.DataFrame:
    """The tested pairs of all cells with the scores of every way but GLUE's, and those from the true pairs."""
    from scmodal.io import read_prepared
    from scmodal.peakgene import LinkSettings
    from scmodal.peakgene.formats import ALL_CELLS, read_table
    from scmodal.peakgene.inputs import read_inputs

    table = read_table(folder / "links" / "peak_gene.tsv.gz")
    table = table[table["group"] == ALL_CELLS].reset_index(drop=True)
    data = read_inputs(
        folder / "rna.h5ad", folder / "atac.h5ad", folder / "run" / "integrated.h5mu", genes, device="cpu"
    )
    activity, rna = read_prepared(folder / "atac.h5ad"), read_prepared(folder / "rna.h5ad")
    rna = rna[data.atac.obs_names]
    cells = np.random.default_rng(0).permutation(data.atac.n_obs)
    half = len(cells) // 2
    settings = LinkSettings()
    whole = _units(data.z, np.arange(len(cells)), settings)
    # peakgene's own r, z and r_paired stand in the table
    found = _with_activity(whole, data, activity, table) | {"z_paired": _from_pairs(whole, data, rna, table)["z"]}
    own = _units(data.z, np.sort(cells[:half]), settings)
    imputed = _imputed(own, data, table)
    other = _from_pairs(_units(data.z, np.sort(cells[half:]), settings), data, rna, table)
    found |= {f"{name}_half": values for name, values in _with_activity(own, data, activity, table).items()}
    found |= {"r_half": imputed["r"], "z_half": imputed["z"], "r_other": other["r"], "z_other": other["z"]}
    return table.assign(**found)


def _units(z: np.ndarray, cells: np.ndarray, settings: Any) -> Any:
    """The units that ``scmodal peakgene`` makes of some cells: units x all cells."""
    import scipy.sparse as sp

    from scmodal.peakgene.units import choose_units

    own = choose_units(z[cells], settings.n_units, settings.unit_size, settings.max_overlap, settings.seed)
    return sp.csr_matrix((own.data, cells[own.indices], own.indptr), shape=(own.shape[0], len(z)))


def _numbered(data: Any, table: pd.DataFrame) -> pd.DataFrame:
    """The tested pairs by row numbers of the genes and peaks."""
    gene, peak = (pd.Index(frame[name]) for frame, name in ((data.genes, "gene"), (data.peaks, "peak")))
    return pd.DataFrame({"gene": gene.get_indexer(table["gene"]), "peak": peak.get_indexer(table["peak"])})


def _with_activity(units: Any, data: Any, activity: Any, table: pd.DataFrame) -> dict[str, Any]:
    """Correlation of each pair with the gene's activity in place of its expression."""
    from scmodal.peakgene.aggregate import accessibility, unit_means
    from scmodal.peakgene.link import other_correlation

    rows = activity.var_names.get_indexer(data.genes["gene"])
    opened = accessibility(units, data.counts)
    return {"activity": other_correlation(_numbered(data, table), unit_means(units, activity.X), opened, rows)}


def _linked(units: Any, expressed: np.ndarray, data: Any, table: pd.DataFrame) -> pd.DataFrame:
    """Values r and z of each pair in the units, for a given expression in them."""
    from scmodal.peakgene import link_peaks
    from scmodal.peakgene.aggregate import accessibility

    pairs = _numbered(data, table).assign(distance=table["distance"])
    found = link_peaks(expressed, accessibility(units, data.counts), data.genes, data.peaks, pairs)
    return pairs[["gene", "peak"]].merge(found[["gene", "peak", "r", "z"]], on=["gene", "peak"], how="left")


def _imputed(units: Any, data: Any, table: pd.DataFrame) -> pd.DataFrame:
    """Values r and z with imputed expression."""
    from scmodal.peakgene.expression import imputed_expression

    return _linked(units, imputed_expression(data.model, data.z, list(data.genes["gene"]), units), data, table)


def _from_pairs(units: Any, data: Any, rna: Any, table: pd.DataFrame) -> pd.DataFrame:
    """Values r and z with the expression measured in the very cells of each unit: the truth to compare with."""
    from scmodal.peakgene.aggregate import unit_means

    return _linked(units, unit_means(units, rna[:, list(data.genes["gene"])].X), data, table)


# ---- GLUE -----------------------------------------------------------------------------------------------------------


def glue(data: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """GLUE's regulatory scores of the same pairs, and what was used for them.

    Parameters
    ----------
    data
        Folder of the published data sets.
    folder
        Where what it is given and gives is kept; scores that are there are not computed again.
    options
        `environments`, `reach` (base pairs), `epochs` (None: GLUE's own number) and `minutes` (None: no limit) of
        each training, `threads`, `limit` (seconds).
    """
    import peers

    from scmodal.peakgene import LinkSettings

    done = folder / "seconds.json"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        peers.hand_over(peers.prepare("snare_cortex", data), folder, 0)
        # peaks open in fewer cells are not tested by any way
        asked: dict[str, Any] = {"reach": options.reach, "features": True, "min_cells": LinkSettings().min_cells}
        asked |= {"max_epochs": options.epochs} if options.epochs else {}
        asked |= {"minutes": options.minutes} if options.minutes else {}
        (folder / "asked.json").write_text(json.dumps(asked))
        interpreter = peers.environment("glue", options.environments)
        runner = [str(interpreter), str(HERE / "peers" / "run_glue.py"), str(folder), "0", str(options.threads)]
        done.write_text(json.dumps(peers.execute(runner, options.threads, options.limit, folder / "log.txt")))
    used = json.loads((folder / "used.json").read_text())
    asked = json.loads((folder / "asked.json").read_text())
    return {
        "version": next(item for item in peers.METHODS["glue"].requirements if item.startswith("scglue")),
        "max_epochs": asked.get("max_epochs", "its own"),
        "minutes_per_training": asked.get("minutes", "unlimited"),
        "trainings": used["trainings"],
        "reach": asked["reach"],
        "min_cells": asked["min_cells"],
        "seconds": round(json.loads(done.read_text()), 1),
        "peak_memory_gb": round(used["peak_gb"], 2),
        "features": used["features"],
        "edges": used["edges"],
    }


def glue_scores(folder: Path, table: pd.DataFrame) -> np.ndarray:
    """Cosine of the embeddings of gene and peak, NaN where GLUE used one of them not."""
    with np.load(folder / "features.npz") as stored:
        names, vectors = pd.Index(stored["names"]), np.asarray(stored["embeddings"], np.float64)
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    gene, peak = names.get_indexer(table["gene"]), names.get_indexer(table["peak"])
    score = np.einsum("ij,ij->i", vectors[gene], vectors[peak])
    return np.where((gene >= 0) & (peak >= 0), score, np.nan)


# ---- how well a ranking agrees with the true pairs ------------------------------------------------------------------


def agreement(table: pd.DataFrame) -> dict[str, Any]:
    """Each way to rank pairs against the ranking from the true pairs.

    Parameters
    ----------
    table
        Pairs as :func:`snare` leaves them, with `glue` (score) if there is one.

    Returns
    -------
    dict
        `same_units` and `other_cells`: `n`, `chance`, `precision_at_1000` (share of the 1,000 strongest pairs that
        are among the 1,000 strongest by true pairs) and `correlation_of_r`, by way.
    """
    same = {
        "ours_z": table["z"],
        "ours_r": table["r"],
        "ours_r_locus_out": table["r_locus_out"],
        "gene_activity": table["activity"],
    }
    halves = {"ours_z": table["z_half"], "ours_r": table["r_half"], "gene_activity": table["activity_half"]}
    rest = {"distance": -table["distance"].abs()}
    if "glue" in table:
        rest["glue"] = table["glue"]
    return {
        "same_units": compare(same | rest, table["r_paired"], table["z_paired"]),
        "other_cells": compare(halves | rest, table["r_other"], table["z_other"]),
    }


def compare(ways: dict[str, pd.Series], r: pd.Series, z: pd.Series) -> dict[str, Any]:
    """Precision at 1,000 and correlation of r of each way.

    Parameters
    ----------
    ways
        A score for each pair. Pairs without one come last; the sign of `distance` and `glue` counts (near, alike), of
        the others the size alone, since links may be negative.
    r, z
        From the true pairs. Pairs without them are left out.
    """
    known = (r.notna() & z.notna()).to_numpy()
    best = set(z[known].abs().nlargest(TOP).index)
    precision, correlation = {}, {}
    for name, score in ways.items():
        own = score[known]
        ranked = (own if name in ("distance", "glue") else own.abs()).fillna(-np.inf)
        precision[name] = round(len(best & set(ranked.nlargest(TOP).index)) / TOP, 4)
        if name not in ("distance", "ours_z"):
            correlation[name] = round(float(own.corr(r[known])), 4)
    return {
        "n": int(known.sum()),
        "chance": round(TOP / int(known.sum()), 4),
        "precision_at_1000": precision,
        "correlation_of_r": correlation,
    }


# ---- from fragments to links ----------------------------------------------------------------------------------------

NEAR = 50_000
"""Base pairs within which a link counts as near."""

BEST = 100
"""Pairs of the greatest z, of which the near ones are counted, too."""


def archr(data: Path, folder: Path, options: list[str], seed: int = 0) -> dict[str, Any]:
    """From a fragments file of blood and RNA of other cells to links, by the commands of the command line.

    Parameters
    ----------
    data
        Folder of the published data sets.
    folder
        Where the run is kept.
    options
        Of ``scmodal integrate``.
    seed
        Of training.
    """
    import quality

    source, genes = data / "archr_pbmc_tiny", data / "genes" / "hg19_genes.bed"
    folder.mkdir(parents=True, exist_ok=True)
    # the labels are for the evaluation alone
    fragments = source / "PBSmall.tsv.gz"
    quality.archr_cells(data).to_csv(folder / "cells.tsv", sep="\t", index=False)
    rna, atac, run = folder / "rna.h5ad", folder / "atac.h5ad", folder / "run"
    both, label = ("--input", rna, "--input", atac), ("--label-key", "cell_type")
    integrated = ("--integrated", run / "integrated.h5mu")
    steps: dict[str, tuple[object, ...]] = {
        "preprocess_rna": ("preprocess", "--input", source / "rna.h5ad", "--modality", "rna", *label, "--output", rna),
        "preprocess_atac": (
            *("preprocess", "--input", fragments, "--modality", "atac", "--genes", genes, "--genome", "hg19"),
            *("--cells", folder / "cells.tsv", *label, "--output", atac),
        ),
        "link": ("link", *both, "--output", folder / "links.tsv"),
        "integrate": ("integrate", *both, "--links", folder / "links.tsv", "--output", run, "--seed", seed, *options),
        **{
            f"transfer_{a}_to_{b}": (
                *("transfer", *integrated, "--from", a, "--to", b, *label),
                *("--output", folder / f"{a}_to_{b}.labels.tsv"),
            )
            for a, b in (("rna", "atac"), ("atac", "rna"))
        },
        "evaluate": ("evaluate", *integrated, *label, "--output", folder / "metrics.json"),
        "peakgene": (
            *("peakgene", "--rna", rna, "--atac", atac, "--genes", genes, *integrated),
            *("--output", folder / "links"),
        ),
    }
    took = run_commands(steps, folder)
    in_all = {f"{kind}_in_all": round(sum(values.values()), 1) for kind, values in took.items()}
    return {**took, **in_all, **_from_fragments(folder)}


def _from_fragments(folder: Path) -> dict[str, Any]:
    """What a run of :func:`archr` came to."""
    from scmodal.io import read_prepared
    from scmodal.peakgene.formats import ALL_CELLS, read_table

    adatas = {name: read_prepared(folder / f"{name}.h5ad") for name in ("rna", "atac")}
    names = pd.read_csv(folder / "links.tsv", sep="\t")
    metrics = json.loads((folder / "metrics.json").read_text())
    accuracy = {}
    for a, b in (("rna", "atac"), ("atac", "rna")):
        table = pd.read_csv(folder / f"{a}_to_{b}.labels.tsv", sep="\t", index_col="cell")
        truth = adatas[b].obs["cell_type"].astype(str)
        accuracy[f"{a}_to_{b}"] = round(float((table["label"].reindex(truth.index) == truth).mean()), 4)
    table = read_table(folder / "links" / "peak_gene.tsv.gz")
    table = table[table["group"] == ALL_CELLS]
    link = table["fdr"] <= 0.05
    near = table["distance"].abs() < NEAR
    return {
        "cells": {name: adata.n_obs for name, adata in adatas.items()},
        "fragments_a_cell": int(adatas["atac"].obs["n_fragments"].median()),
        "peaks": len(adatas["atac"].uns["scmodal"]["peaks"]),
        "linked_genes": len(names),
        "accuracy_by_vote": accuracy,
        "accuracy_by_nearest": {way: found["accuracy"] for way, found in metrics["label_transfer"].items()},
        "n_units": int(table["n_units"].iloc[0]),
        "n_pairs": len(table),
        "n_links": int(link.sum()),
        "near": NEAR,
        "share_near_of_pairs": round(float(near.mean()), 4),
        "share_near_of_best": round(float(near[table["z"].abs().nlargest(BEST).index].mean()), 4),
        "share_near_of_links": round(float(near[link].mean()), 4) if link.any() else None,
        "lowest_fdr": float(table["fdr"].min()),
    }

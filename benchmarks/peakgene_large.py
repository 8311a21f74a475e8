"""Chromatin of 100,000 cells x 150,000 peaks: time and peak memory of what reads the whole matrix.

Counts are simulated on disk, block by block: kinds of cells that differ in a part of their peaks, as many counts a cell
as asked for, at peaks that lie near genes as often as real ones. `scmodal preprocess` brings them to gene activity and
components; then the prepared peaks are summed to 500 units of alike cells (neighbours by the components), as
`scmodal peakgene` does it. Each step is a process of its own, so that its peak memory is known.

Used by peakgene.py; the steps besides the command are this file's own: `python peakgene_large.py STEP FOLDER ...`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

GENES, KINDS = 20_000, 12
LENGTH = 140_000_000
"""Base pairs of each of 20 chromosomes."""

BLOCK = 2000
"""Cells that are drawn at a time."""


def simulate(folder: Path, n_cells: int, n_peaks: int, n_counts: int) -> None:
    """Write ``atac.h5ad`` and ``genes.bed``.

    Parameters
    ----------
    folder
        Made if it is not there.
    n_cells, n_peaks
        Size.
    n_counts
        Median counts of a cell.
    """
    import scipy.sparse as sp
    from anndata import AnnData

    from scmodal.io import write_h5ad_blocks

    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    genes, peaks = _genome(rng, n_peaks)
    genes.to_csv(folder / "genes.bed", sep="\t", header=False, index=False)
    # the openness of peaks varies much; in each kind of cell a tenth of them are four times as open
    openness = rng.gamma(0.5, 1.0, n_peaks)
    rates = openness * np.where(rng.random((KINDS, n_peaks)) < 0.1, 4.0, 1.0)
    ladder = np.cumsum(rates, axis=1) / rates.sum(axis=1, keepdims=True)
    kind = rng.integers(KINDS, size=n_cells)
    depth = rng.poisson(n_counts * np.exp(rng.normal(0, 0.4, n_cells)))

    def blocks() -> Iterator[Any]:
        for start in range(0, n_cells, BLOCK):
            rows, columns = [], []
            for cell in range(start, min(start + BLOCK, n_cells)):
                found = np.searchsorted(ladder[kind[cell]], np.sort(rng.random(depth[cell])))
                columns.append(np.minimum(found, n_peaks - 1))
                rows.append(np.full(depth[cell], cell - start))
            row, column = np.concatenate(rows), np.concatenate(columns)
            counts = sp.csr_matrix(
                (np.ones(len(row), np.float32), (row, column)), shape=(min(BLOCK, n_cells - start), n_peaks)
            )
            yield counts

    obs = pd.DataFrame({"kind": pd.Categorical(kind)}, index=[f"cell{i}" for i in range(n_cells)])
    names = [f"{c}:{s}-{e}" for c, s, e in peaks.itertuples(index=False)]
    write_h5ad_blocks(AnnData(obs=obs, var=pd.DataFrame(index=names)), {"X": blocks()}, folder / "atac.h5ad")


def _genome(rng: np.random.Generator, n_peaks: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Genes (BED) and peaks of 500 bp, a quarter of them at starts of genes, all at places of their own."""
    start = np.sort(rng.integers(10_000, LENGTH - 200_000, GENES))
    genes = pd.DataFrame(
        {
            "chrom": [f"chr{i}" for i in rng.integers(1, 21, GENES)],
            "start": start,
            "end": start + rng.integers(2000, 60_000, GENES),
            "symbol": [f"GENE{i}" for i in range(GENES)],
            "strand": rng.choice(["+", "-"], GENES),
        }
    )
    tss = np.where(genes["strand"] == "+", genes["start"], genes["end"])
    own = rng.integers(GENES, size=n_peaks // 4)
    middle = np.concatenate([tss[own] + rng.integers(-300, 300, len(own)), rng.integers(2000, LENGTH, n_peaks)])
    number = np.concatenate([genes["chrom"].str[3:].astype(int).to_numpy()[own], rng.integers(1, 21, n_peaks)])
    _, first = np.unique(number * 10**9 + middle, return_index=True)
    kept = np.sort(first)[:n_peaks]  # those at genes stand first
    peaks = pd.DataFrame({"chrom": [f"chr{i}" for i in number[kept]], "start": middle[kept] - 250})
    return genes, peaks.assign(end=peaks["start"] + 500)


def aggregate(folder: Path) -> None:
    """Sum the prepared peaks to units of alike cells."""
    import h5py
    from anndata.io import read_elem

    from scmodal.peakgene.aggregate import accessibility
    from scmodal.peakgene.inputs import read_atac
    from scmodal.peakgene.units import choose_units

    _, counts = read_atac(folder / "prepared.h5ad")
    with h5py.File(folder / "prepared.h5ad") as file:
        z = np.asarray(read_elem(file["obsm/X_lsi"]), np.float32)[:, :20]
    opened = accessibility(choose_units(z), counts)
    print(f"{opened.shape[0]:,} peaks x {opened.shape[1]} units")


def measured(arguments: list[str]) -> dict[str, float]:
    """Seconds, CPU seconds and peak memory of a process."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(arguments)} ended with exit code {process.returncode}")
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_memory_gb": round(usage.ru_maxrss * 1024 / 1e9, 2),
    }


def large(folder: Path, n_cells: int, n_peaks: int, n_counts: int) -> dict[str, Any]:
    """All steps; data that are there are not simulated again.

    Parameters
    ----------
    folder
        For the data: some 10 bytes a count.
    n_cells, n_peaks, n_counts
        See :func:`simulate`.
    """
    import h5py

    own = [str(Path(__file__).resolve())]
    data = folder / f"{n_cells}x{n_peaks}x{n_counts}"
    steps: dict[str, dict[str, float]] = {}
    if not (data / "atac.h5ad").exists():
        steps["simulate"] = measured([*own, "simulate", str(data), str(n_cells), str(n_peaks), str(n_counts)])
    steps["preprocess"] = measured(
        [
            *("-m", "scmodal.cli", "preprocess", "--input", str(data / "atac.h5ad"), "--modality", "atac"),
            *("--genes", str(data / "genes.bed"), "--output", str(data / "prepared.h5ad")),
        ]
    )
    steps["units"] = measured([*own, "aggregate", str(data)])
    with h5py.File(data / "atac.h5ad") as file:
        stored = int(file["X/data"].shape[0])
    return {
        "n_cells": n_cells,
        "n_peaks": n_peaks,
        "n_stored": stored,
        "share_stored": round(stored / (n_cells * n_peaks), 5),
        "dense_gb": round(4 * n_cells * n_peaks / 1e9, 1),
        "stored_gb": round(8 * stored / 1e9, 2),
        "processes": steps,
    }


if __name__ == "__main__":
    step, place, *sizes = sys.argv[1:]
    if step == "simulate":
        simulate(Path(place), *map(int, sizes))
    else:
        aggregate(Path(place))

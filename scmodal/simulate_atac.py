"""Simulated RNA and chromatin of cells in the same states, with the genome that both are on: to try the pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from scmodal.contracts import InputError
from scmodal.simulate import _cells, _levels, _modality, _mudata, _rna_counts, too_small, write_simulation

if TYPE_CHECKING:
    from mudata import MuData

CHROMOSOMES = 4
"""Of the simulated genome."""

_SPACING = 60_000  # base pairs from one gene to the next
_PEAK = 500  # base pairs
_PROMOTER_COUNT = 0.35  # mean count of a promoter's peak in a cell
_FOLLOW = 0.8  # how strongly a gene's peaks follow its level


def _genome(rng: np.random.Generator, n_genes: int) -> pd.DataFrame:
    """Genes on both strands of a few chromosomes: chrom, start, end, gene, strand, tss."""
    chrom = np.sort(np.arange(n_genes) % CHROMOSOMES)
    rank = np.arange(n_genes) - np.searchsorted(chrom, chrom)
    start = 20_000 + rank * _SPACING + rng.integers(0, 10_000, size=n_genes)
    length = rng.integers(3_000, 25_000, size=n_genes)
    strand = np.where(rng.random(n_genes) < 0.5, "+", "-").astype(object)
    return pd.DataFrame(
        {
            "chrom": np.array([f"chr{c + 1}" for c in chrom], dtype=object),
            "start": start,
            "end": start + length,
            "gene": np.array([f"GENE{i + 1}" for i in range(n_genes)], dtype=object),
            "strand": strand,
            "tss": np.where(strand == "+", start, start + length - 1),
        }
    )


def _peaks(rng: np.random.Generator, genes: pd.DataFrame) -> pd.DataFrame:
    """A peak at each gene's start, one within it and two apart from it: chrom, start, end, gene (-1 for none)."""
    n = len(genes)
    tss, start, end = (genes[c].to_numpy() for c in ("tss", "start", "end"))
    body = start + ((end - start) * rng.uniform(0.35, 0.75, size=n)).astype(np.int64)
    places = [tss - _PEAK // 2, body, end + rng.integers(6_000, 12_000, n), end + rng.integers(13_000, 19_000, n)]
    first = np.maximum(np.concatenate(places), 0)
    own = np.concatenate([np.arange(n), np.arange(n), np.full(2 * n, -1)])
    frame = pd.DataFrame(
        {"chrom": np.tile(genes["chrom"].to_numpy(), 4), "start": first, "end": first + _PEAK, "own": own}
    )
    return frame.drop_duplicates(["chrom", "start"]).sort_values(["chrom", "start"]).reset_index(drop=True)


def simulate_atac(
    n_cells: int = 1000,
    n_genes: int = 1000,
    n_cell_types: int = 8,
    paired: bool = True,
    seed: int = 0,
    *,
    n_latent: int = 10,
    n_batches: int = 1,
    umis: float = 3000.0,
) -> MuData:
    """Simulate RNA and chromatin of the same tissue.

    Cells and RNA are made as in :func:`scmodal.simulate.simulate`; the first half of the genes tells states apart as
    the genes of surface markers do there. The genome has the genes one after the other on four
    chromosomes. A gene's promoter and a peak within the gene are open in proportion to ``exp(0.8 * level)`` of the
    gene; two further peaks a gene are open at random, whatever the state of the cell. Counts are Poisson at a depth
    that differs between cells, mostly 0 as in real data.

    Parameters
    ----------
    n_cells
        Cells of each modality.
    n_genes
        Genes, `GENE<i>`.
    n_cell_types, paired, seed, n_latent, n_batches, umis
        As in :func:`scmodal.simulate.simulate`.

    Returns
    -------
    MuData
        Modalities `rna` and `atac`, each with raw counts as float32 CSR in X and ``layers["counts"]``, ``obs`` with
        `cell_type`, `batch` and `state`, and ``obsm["truth"]``. ``atac.var_names`` are ``chrom:start-end``;
        ``atac.var["gene"]`` the gene that the peak follows (empty for none). ``rna.var`` holds where the genes are:
        ``chrom``, ``start``, ``end`` (0-based, half-open) and ``strand``.

    Raises
    ------
    InputError
        A number is out of range; all of them at once.
    """
    problems = too_small(
        ("the number of cells", n_cells, max(2, n_cell_types)),
        ("the number of genes", n_genes, 10),
        ("the number of cell types", n_cell_types, 1),
        ("the number of latent dimensions", n_latent, 2),
        ("the number of batches", n_batches, 1),
        ("the number of UMIs", umis, 1),
        ("the seed", seed, 0),
    )
    if problems:
        raise InputError(problems)
    rng = np.random.default_rng(seed)
    latent, obs = _cells(rng, n_cells if paired else 2 * n_cells, n_cell_types, n_latent, n_batches)
    rna_cells = slice(0, n_cells)
    atac_cells = rna_cells if paired else slice(n_cells, 2 * n_cells)
    batch = obs["batch"].cat.codes.to_numpy()
    levels = _levels(rng, latent, n_genes)
    rna_counts = _rna_counts(rng, levels[rna_cells], batch[rna_cells], n_linked=n_genes // 2, umis=umis)
    genes = _genome(rng, n_genes)
    peaks = _peaks(rng, genes)
    atac_counts = _peak_counts(rng, levels[atac_cells], peaks["own"].to_numpy())

    rna = _modality(rna_counts, obs.iloc[rna_cells], latent[rna_cells], list(genes["gene"]), [])
    rna.var = genes.set_index("gene")[["chrom", "start", "end", "strand"]].rename_axis(None)
    names = peaks["chrom"] + ":" + peaks["start"].astype(str) + "-" + peaks["end"].astype(str)
    atac = ad.AnnData(
        X=atac_counts,
        obs=obs.iloc[atac_cells].copy(),
        var=pd.DataFrame(
            {"gene": np.array([genes["gene"][i] if i >= 0 else "" for i in peaks["own"]], dtype=object)},
            index=pd.Index(names.to_numpy(dtype=object)),
        ),
        layers={"counts": atac_counts.copy()},
        obsm={"truth": latent[atac_cells].astype(np.float32)},
    )
    return _mudata({"rna": rna, "atac": atac})


def _peak_counts(rng: np.random.Generator, levels: np.ndarray, own: np.ndarray) -> sp.csr_matrix:
    """Counts of peaks (cells x peaks): those with a gene follow its level, the others nothing."""
    openness = np.exp(rng.normal(np.log(_PROMOTER_COUNT), 0.5, size=len(own)))
    follow = np.where(own >= 0, _FOLLOW, 0.0)
    depth = np.exp(rng.normal(0.0, 0.3, size=len(levels)))
    mean = openness * np.exp(follow * levels[:, np.maximum(own, 0)] - follow**2 / 2) * depth[:, None]
    counts = rng.poisson(mean).astype(np.float32)
    # A cell without a count would be dropped on preparation, and with it one half of a pair.
    empty = np.flatnonzero(counts.sum(axis=1) == 0)
    counts[empty, mean[empty].argmax(axis=1)] = 1
    return sp.csr_matrix(counts)


def write_atac_simulation(mdata: MuData, folder: str | Path) -> Path:
    """Write a simulation as the pipeline's input: `rna.h5ad`, `atac.h5ad`, `genes.bed` and `samplesheet.csv`.

    Parameters
    ----------
    mdata
        From :func:`simulate_atac`.
    folder
        Made if it is not there.

    Returns
    -------
    Path
        The samplesheet.

    Raises
    ------
    InputError
        The folder cannot be written to.
    """
    from scmodal.io import atomic_path, check_writable

    folder = Path(folder)
    check_writable(folder)
    var = mdata.mod["rna"].var
    with atomic_path(folder / "genes.bed") as temporary:
        bed = var[["chrom", "start", "end"]].assign(gene=var.index, strand=var["strand"])
        bed.to_csv(temporary, sep="\t", header=False, index=False)
    return write_simulation(mdata, folder)

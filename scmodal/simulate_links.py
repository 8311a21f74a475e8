"""Simulated RNA and chromatin whose links between peaks and genes are known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from scmodal.contracts import InputError
from scmodal.simulate import _negative_binomial, _rna_counts, _standardise, too_small, write_sheet

SPACING = 100_000
"""Base pairs of a chromosome for each of its genes."""

PEAK_WIDTH = 500

_PROMOTER, _DISTAL, _LINK, _DECOY = "promoter", "distal", "link", "decoy"


@dataclass
class LinkSimulation:
    """Data with the truth about them.

    Attributes
    ----------
    rna
        Raw counts, cells x genes; `cell_type` in obs, the cells' true latent in ``obsm["truth"]``.
    atac
        Raw counts, cells x peaks named ``chrom:start-end``, sorted by place; the same in obs and obsm. ``var["kind"]``:
        promoter, link, decoy or distal.
    genes
        `chrom`, `start`, `end`, `gene`, `gene_id`, `strand`, `tss` (0-based, half-open).
    truth
        The planted links: `gene`, `peak`, `strength` (the correlation of the true log levels, negative where the peak
        closes with expression) and `cell_type` (the only one in which the link acts; empty for all).
    """

    rna: ad.AnnData
    atac: ad.AnnData
    genes: pd.DataFrame
    truth: pd.DataFrame


def simulate_links(
    n_cells: int = 1000,
    n_genes: int = 300,
    n_chromosomes: int = 6,
    n_cell_types: int = 25,
    links: bool = True,
    paired: bool = True,
    seed: int = 0,
    *,
    links_per_gene: float = 1.0,
    distal_per_gene: int = 5,
    reach: float = 40_000.0,
    strength: tuple[float, float] = (0.85, 0.99),
    negative: float = 0.2,
    group_specific: float = 0.0,
    promoter_strength: float = 0.7,
    openness: float = 0.3,
    umis: float = 2000.0,
    n_latent: int = 30,
) -> LinkSimulation:
    """Simulate RNA and ATAC in which some peaks regulate some genes.

    Cells lie in a latent space of `n_latent` dimensions, around the centres of their types and drawn out along a
    direction of each type's own. The log level of a gene is linear in it. Every gene has a promoter peak, which follows
    it with `promoter_strength`. Distal peaks follow the latent in ways of
    their own, so that many correlate with many genes, near and far, as real ones do. A linked peak follows its gene
    and lies at an exponential distance of mean `reach` from it. Beside each linked peak lies a decoy that opens with
    it but shares only what it does not have from the gene: co-accessible, but no regulator. Counts of peaks are
    negative binomial and sparse.

    Parameters
    ----------
    n_cells
        Cells of each modality.
    n_genes, n_chromosomes, n_cell_types
        Sizes.
    links
        False plants no links and no decoys: distal peaks know nothing of the genes near them.
    paired
        The same cells in both modalities, under the same names; else disjoint sets.
    seed
        Same arguments and seed: the same data.
    links_per_gene
        Linked peaks a gene, on average.
    distal_per_gene
        Unlinked distal peaks, in all as many times the genes.
    reach
        Mean distance of a link in base pairs, beyond a first 3,000.
    strength
        Least and greatest correlation of the log levels of a linked peak and its gene.
    negative
        Share of links in which the peak closes when the gene is expressed.
    group_specific
        Share of links that act in one cell type only.
    promoter_strength
        Correlation of promoter and gene; 0 for none.
    openness
        Mean count of a peak in a cell.
    umis
        Median RNA counts of a cell.
    n_latent
        Latent dimensions.

    Raises
    ------
    InputError
        A number is out of range; all of them at once.
    """
    problems = too_small(
        ("the number of cells", n_cells, 20),
        ("the number of genes", n_genes, 10),
        ("the number of chromosomes", n_chromosomes, 2),
        ("the number of cell types", n_cell_types, 1),
        ("the number of unlinked peaks a gene", distal_per_gene, 1),
        ("the number of latent dimensions", n_latent, 2),
        ("the seed", seed, 0),
    )
    if not 0 <= strength[0] <= strength[1] <= 1:
        problems.append(f"the strengths of links must be two rising numbers from 0 to 1, not {strength}")
    if problems:
        raise InputError(problems)
    rng = np.random.default_rng(seed)
    latent, obs = _cells(rng, (1 if paired else 2) * n_cells, n_cell_types, n_latent)
    levels = _levels(rng, latent, n_genes)
    genes = _place_genes(rng, n_genes, n_chromosomes)
    peaks = _place_peaks(rng, genes, links_per_gene if links else 0.0, distal_per_gene, reach)
    opened = _peak_levels(rng, latent, levels, peaks, obs, strength, negative, group_specific, promoter_strength)

    rna_cells = slice(0, n_cells)
    atac_cells = rna_cells if paired else slice(n_cells, 2 * n_cells)
    counts = _rna_counts(rng, levels[rna_cells], np.zeros(n_cells, int), n_linked=n_genes, umis=umis)
    rna = ad.AnnData(counts, obs=obs.iloc[rna_cells].copy(), var=pd.DataFrame(index=pd.Index(genes["gene"])))
    rna.obsm["truth"] = latent[rna_cells].astype(np.float32)
    order = np.lexsort((peaks["start"], peaks["chrom"]))
    peaks = peaks.iloc[order].reset_index(drop=True)
    fragments = _peak_counts(rng, opened[atac_cells][:, order], openness)
    names = peaks["chrom"] + ":" + peaks["start"].astype(str) + "-" + (peaks["start"] + PEAK_WIDTH).astype(str)
    var = pd.DataFrame({"kind": peaks["kind"].to_numpy(dtype=object)}, index=pd.Index(names.to_numpy(dtype=object)))
    atac = ad.AnnData(fragments, obs=obs.iloc[atac_cells].copy(), var=var)
    atac.obsm["truth"] = latent[atac_cells].astype(np.float32)
    linked = (peaks["kind"] == _LINK) | ((peaks["kind"] == _PROMOTER) & (promoter_strength > 0))
    truth = pd.DataFrame(
        {
            "gene": genes["gene"].to_numpy()[peaks.loc[linked, "of"]],
            "peak": names[linked].to_numpy(),
            "strength": peaks.loc[linked, "strength"].to_numpy(),
            "cell_type": peaks.loc[linked, "cell_type"].to_numpy(dtype=object),
        }
    )
    return LinkSimulation(rna, atac, genes, truth)


def _cells(rng: np.random.Generator, n: int, n_types: int, n_latent: int) -> tuple[np.ndarray, pd.DataFrame]:
    """Latent (n x n_latent) and obs of n cells, of types that are as far from each other as chance puts them.

    Without lineages: the more types differ in only a few ways, the more peaks follow a gene anywhere in the genome.
    """
    centres, gradients = rng.normal(size=(n_types, n_latent)), rng.normal(size=(n_types, n_latent))
    types = rng.integers(n_types, size=n)
    types[rng.permutation(n)[:n_types]] = np.arange(n_types)
    along = rng.normal(0.0, 0.5, size=(n, 1)) * gradients[types]
    latent = centres[types] + along + rng.normal(0.0, 0.2, size=(n, n_latent))
    names = [f"type_{i + 1:0{len(str(n_types))}d}" for i in range(n_types)]
    obs = pd.DataFrame(
        {"cell_type": pd.Categorical.from_codes(types, categories=pd.Index(names))},
        index=pd.Index([f"CELL{i + 1:0{len(str(n))}d}" for i in range(n)]),
    )
    return latent, obs


def _levels(rng: np.random.Generator, latent: np.ndarray, n_features: int) -> np.ndarray:
    """Standardised log level of each feature (cells x features), linear in all latent dimensions."""
    return _standardise(latent @ rng.normal(size=(latent.shape[1], n_features)))


def _place_genes(rng: np.random.Generator, n: int, n_chromosomes: int) -> pd.DataFrame:
    """Genes at random places, one after the other on each chromosome."""
    chrom = np.sort(np.arange(n) % n_chromosomes)
    number = np.arange(n) - np.searchsorted(chrom, chrom)
    tss = ((number + rng.uniform(0.15, 0.85, n)) * SPACING).astype(np.int64) + SPACING
    length = np.clip(np.exp(rng.normal(np.log(15_000), 0.8, n)), 2_000, 60_000).astype(np.int64)
    plus = rng.random(n) < 0.5
    start = np.where(plus, tss, tss - length + 1)
    return pd.DataFrame(
        {
            "chrom": [f"chr{i + 1}" for i in chrom],
            "start": start,
            "end": start + length,
            "gene": [f"GENE{i + 1}" for i in range(n)],
            "gene_id": [f"ID{i + 1:05d}" for i in range(n)],
            "strand": np.where(plus, "+", "-"),
            "tss": tss,
        }
    )


def _place_peaks(
    rng: np.random.Generator, genes: pd.DataFrame, links_per_gene: float, distal_per_gene: int, reach: float
) -> pd.DataFrame:
    """Peaks of every kind: `chrom`, `start`, `kind`, and `of`, the row of the gene (of a decoy, of the linked peak)."""
    n = len(genes)
    tss, chrom = genes["tss"].to_numpy(), genes["chrom"].to_numpy()
    of_link = np.repeat(np.arange(n), rng.poisson(links_per_gene, n))
    away = (3_000 + rng.exponential(reach, len(of_link))).clip(max=240_000) * rng.choice([-1, 1], len(of_link))
    link_at = tss[of_link] + away
    beside = rng.uniform(1_500, 8_000, len(of_link)) * rng.choice([-1, 1], len(of_link))
    end = genes.groupby("chrom")["end"].max()
    on = rng.integers(n, size=n * distal_per_gene)  # a gene's chromosome: longer ones have more peaks
    distal_at = rng.uniform(0, end[chrom[on]].to_numpy() + SPACING)
    first_link = n  # rows: promoters, then links
    frame = pd.DataFrame(
        {
            "chrom": np.concatenate([chrom, chrom[of_link], chrom[of_link], chrom[on]]),
            "middle": np.concatenate([tss, link_at, link_at + beside, distal_at]),
            "kind": np.repeat([_PROMOTER, _LINK, _DECOY, _DISTAL], [n, len(of_link), len(of_link), len(on)]),
            "of": np.concatenate(
                [np.arange(n), of_link, first_link + np.arange(len(of_link)), np.full(len(on), -1)]
            ).astype(int),
        }
    )
    frame["start"] = np.maximum(frame["middle"] - PEAK_WIDTH // 2, 0).astype(np.int64)
    # two peaks of one name would be one peak: the later one is moved on
    while (again := frame.duplicated(["chrom", "start"])).any():
        frame.loc[again, "start"] += PEAK_WIDTH
    return frame.drop(columns="middle")


def _peak_levels(
    rng: np.random.Generator,
    latent: np.ndarray,
    genes: np.ndarray,
    peaks: pd.DataFrame,
    obs: pd.DataFrame,
    strength: tuple[float, float],
    negative: float,
    group_specific: float,
    promoter_strength: float,
) -> np.ndarray:
    """Standardised log level of every peak (cells x peaks); `peaks` gets `strength` and `cell_type`."""
    own = _levels(rng, latent, len(peaks))
    kind, of = peaks["kind"].to_numpy(), peaks["of"].to_numpy()
    wanted, acts_in = np.zeros(len(peaks)), np.full(len(peaks), "", dtype=object)
    link = np.flatnonzero(kind == _LINK)
    wanted[link] = rng.uniform(*strength, len(link)) * np.where(rng.random(len(link)) < negative, -1, 1)
    wanted[kind == _PROMOTER] = promoter_strength
    chosen = link[rng.random(len(link)) < group_specific]
    types = obs["cell_type"].to_numpy().astype(object)
    acts_in[chosen] = rng.choice(np.unique(types), len(chosen))
    out = own.copy()
    for row in np.flatnonzero(wanted):
        cells = types == acts_in[row] if acts_in[row] else np.ones(len(types), bool)
        gene = _standardise(genes[cells, of[row]][:, None])[:, 0]
        rest = _standardise(own[cells, row][:, None])[:, 0]
        # the part that the gene does not explain, or the strength would not be the correlation that it is said to be
        rest = _standardise((rest - gene * (rest * gene).mean())[:, None])[:, 0]
        out[cells, row] = wanted[row] * gene + np.sqrt(1 - wanted[row] ** 2) * rest
        own[cells, row] = rest
    decoy = np.flatnonzero(kind == _DECOY)
    out[:, decoy] = _standardise(0.85 * own[:, of[decoy]] + np.sqrt(1 - 0.85**2) * own[:, decoy])
    peaks["strength"], peaks["cell_type"] = wanted, acts_in
    return out


def _peak_counts(rng: np.random.Generator, levels: np.ndarray, openness: float) -> sp.csr_matrix:
    """Sparse counts whose depth differs between cells and whose mean differs between peaks."""
    n, n_peaks = levels.shape
    base = np.exp(rng.normal(0.0, 0.7, n_peaks))
    rate = base * np.exp(rng.uniform(0.7, 1.1, n_peaks) * levels)
    rate *= openness / rate.mean(axis=0).mean()
    depth = np.exp(rng.normal(0.0, 0.35, n))[:, None]
    return _negative_binomial(rng, rate * depth, np.full(n_peaks, 5.0))


def write_link_simulation(simulation: LinkSimulation, folder: str | Path) -> Path:
    """Write a simulation as the pipeline's input.

    Parameters
    ----------
    simulation
        From :func:`simulate_links`.
    folder
        Made if it is not there; holds ``rna.h5ad``, ``atac.h5ad``, ``genes.bed`` (chrom, start, end, symbol, strand),
        ``truth.tsv`` and ``samplesheet.csv``.

    Returns
    -------
    The samplesheet.
    """
    from scmodal.io import atomic_path, check_writable, write_h5ad, write_tsv

    folder = Path(folder)
    check_writable(folder)
    write_h5ad(simulation.rna, folder / "rna.h5ad")
    write_h5ad(simulation.atac, folder / "atac.h5ad")
    with atomic_path(folder / "genes.bed") as temporary:
        simulation.genes[["chrom", "start", "end", "gene", "strand"]].to_csv(
            temporary, sep="\t", header=False, index=False
        )
    write_tsv(simulation.truth, folder / "truth.tsv")
    return write_sheet(folder, ["rna", "atac"], batches=False)

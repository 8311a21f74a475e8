"""Simulated data sets of any number of cells, written chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from scmodal import simulate
from scmodal.contracts import InputError

LARGE = 50_000_000
"""Cells x genes above which ``scmodal simulate`` writes chunk by chunk."""

CHUNK = 2048
"""Cells simulated at a time."""


def write_large_simulation(
    folder: str | Path,
    n_cells: int,
    n_genes: int = 1000,
    n_proteins: int = 60,
    n_cell_types: int = 8,
    paired: bool = True,
    seed: int = 0,
) -> Path:
    """Simulate a CITE-seq experiment straight into files, in memory that hardly grows with the number of cells.

    The model is that of :func:`scmodal.simulate.simulate` with its defaults, the random numbers are others; raw counts
    are in ``X`` alone.

    Parameters
    ----------
    folder
        Made if it is not there; gets what :func:`scmodal.simulate.write_simulation` writes.
    n_cells, n_genes, n_proteins, n_cell_types, paired, seed
        See :func:`scmodal.simulate.simulate`.

    Returns
    -------
    Path
        The samplesheet.

    Raises
    ------
    InputError
        Fewer genes than proteins; or the folder cannot be written to, or is full.
    """
    from scmodal.io import check_writable

    if n_genes < n_proteins:
        raise InputError(f"every protein needs its gene: {n_genes} genes are fewer than {n_proteins} proteins")
    folder = Path(folder)
    check_writable(folder)
    rng = np.random.default_rng(seed)
    latent, obs = simulate._cells(rng, n_cells if paired else 2 * n_cells, n_cell_types, 10, 2)
    antigens = simulate._linked_antigens(n_proteins)
    proteins = [name for name, _ in antigens] + [f"PROTEIN{i}" for i in range(len(antigens) + 1, n_proteins + 1)]
    linked = [gene for _, gene in antigens]
    genes = linked + [f"GENE{i}" for i in range(1, n_genes - len(linked) + 1)]

    centre, spread = latent.mean(axis=0), np.cov(latent.T, bias=True)
    of_genes = _standardised(simulate._loadings(rng, latent.shape[1], n_genes), spread)
    of_proteins = _protein_loadings(rng, of_genes[:, :n_proteins], spread)
    for name, names, partners, loadings, cells, draw in (
        ("rna", genes, proteins[: len(linked)], of_genes, slice(0, n_cells), _rna(rng, n_genes, len(linked))),
        ("protein", proteins, linked, of_proteins, slice(-n_cells, None), _protein(rng, n_proteins)),
    ):
        part = latent[cells]
        annotation = ad.AnnData(
            obs=obs.iloc[cells].copy(),
            var=pd.DataFrame({"partner": [*partners, *[""] * (len(names) - len(partners))]}, index=pd.Index(names)),
            obsm={"truth": part.astype(np.float32)},
        )
        batch = obs["batch"].cat.codes.to_numpy()[cells]
        _write(annotation, part - centre, loadings, batch, draw, (seed, name), folder / f"{name}.h5ad")
    return simulate.write_sheet(folder, ["rna", "protein"], batches=True)


Draw = Callable[[np.random.Generator, np.ndarray, np.ndarray], sp.csr_matrix]
"""Counts of some cells from a random stream, their levels (cells x features) and batches."""


def _write(
    annotation: ad.AnnData,
    latent: np.ndarray,
    loadings: np.ndarray,
    batch: np.ndarray,
    draw: Draw,
    key: tuple[int, str],
    path: Path,
) -> None:
    """Draw the counts chunk by chunk, each from a stream of its own, and write them."""
    from scmodal.io import write_h5ad_blocks

    def blocks() -> Iterator[sp.csr_matrix]:
        for start in range(0, len(latent), CHUNK):
            rng = np.random.default_rng([key[0], *key[1].encode(), start])
            yield draw(rng, latent[start : start + CHUNK] @ loadings, batch[start : start + CHUNK])

    write_h5ad_blocks(annotation, {"X": blocks()}, path)


def _standardised(loadings: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Loadings whose levels have standard deviation 1, given the covariance of the latent."""
    deviation = np.sqrt(np.einsum("ij,ik,kj->j", loadings, spread, loadings))
    return np.divide(loadings, deviation, out=np.zeros_like(loadings), where=deviation > 0)


def _protein_loadings(rng: np.random.Generator, of_genes: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Loadings of the proteins: in part those of their genes, as :func:`scmodal.simulate.simulate` has it."""
    n_latent, n_proteins = of_genes.shape
    strength = rng.uniform(0.45, 0.95, size=n_proteins)
    own = _standardised(simulate._loadings(rng, n_latent, n_proteins), spread)
    own = _standardised(own - of_genes * np.einsum("ij,ik,kj->j", own, spread, of_genes), spread)
    return np.asarray(strength * of_genes + np.sqrt(1 - strength**2) * own)


def _rna(rng: np.random.Generator, n_genes: int, n_linked: int) -> Draw:
    genes = simulate._genes(rng, n_genes, 2, n_linked)
    dispersion = rng.uniform(1.0, 4.0, size=n_genes)

    def draw(stream: np.random.Generator, levels: np.ndarray, batch: np.ndarray) -> sp.csr_matrix:
        depth = np.exp(stream.normal(np.log(3000.0), 0.3, size=len(levels)))
        return simulate._negative_binomial(stream, genes.mean_counts(levels, batch, depth), dispersion)

    return draw


def _protein(rng: np.random.Generator, n_proteins: int) -> Draw:
    base, gain = rng.normal(3.0, 0.8, size=n_proteins), rng.uniform(0.8, 1.6, size=n_proteins)
    ambient = np.exp(rng.normal(1.5, 0.7, size=n_proteins))
    capture = np.exp(rng.normal(0.0, 0.1, size=(2, n_proteins)))
    dispersion = rng.uniform(2.0, 6.0, size=n_proteins)

    def draw(stream: np.random.Generator, levels: np.ndarray, batch: np.ndarray) -> sp.csr_matrix:
        free = ambient * np.exp(stream.normal(0.0, 0.4, size=len(levels)))[:, None]
        size = np.exp(stream.normal(0.0, 0.3, size=len(levels)))[:, None]
        mean = (np.exp(base + gain * levels) + free) * capture[batch] * size
        return simulate._negative_binomial(stream, mean, dispersion)

    return draw

"""Simulated RNA, surface protein and cytometry data whose truth is known: to try the pipeline, and to test it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from scmodal.contracts import InputError

if TYPE_CHECKING:
    from mudata import MuData

SAMPLE = "simulated"
"""Name of the sample in the samplesheet that :func:`write_simulation` writes."""

SHARED_MARKERS = 2 / 3
"""Share of the cytometry panel that is in the protein panel, too."""


def too_small(*numbers: tuple[str, float, float]) -> list[str]:
    """A sentence for each number below its least; each is given as what it is, its value and the least."""
    return [f"{what} must be {least} or more, not {value}" for what, value, least in numbers if value < least]


def simulate(
    n_cells: int = 1000,
    n_genes: int = 1000,
    n_proteins: int = 60,
    n_cell_types: int = 8,
    paired: bool = True,
    seed: int = 0,
    *,
    n_latent: int = 10,
    n_batches: int = 2,
    umis: float = 3000.0,
    link_strength: float = 0.7,
    n_markers: int = 0,
) -> MuData:
    """Simulate a CITE-seq experiment, on demand with mass cytometry of the same tissue.

    Every cell has a place in a latent space of `n_latent` dimensions: cell types are centres grouped in lineages, and
    each type is drawn out along a direction of its own (a continuous state such as activation). The log expression of
    a gene is linear in a few latent dimensions; RNA counts are negative binomial at the depth of a droplet experiment
    (`umis` a cell, log-normal between cells, most genes mostly 0). The first `n_proteins` genes code for the proteins
    and bear their real names. A protein follows the latent in part through its own gene (`link_strength`) and in part
    by itself, so that measured RNA and protein correlate as weakly as real ones do; its counts are negative binomial
    and lie over a background of free antibody that differs between cells and proteins.

    A cytometer's panel of `n_markers` has two thirds of its antigens in common with the proteins: the same true level
    measured by another instrument. The others have a gene among the RNA and no protein. Values are raw intensities.

    Parameters
    ----------
    n_cells
        Cells of each modality.
    n_genes, n_proteins
        Features. Proteins take their names, and their genes', from the built-in antigen table (antigens of one human
        gene, a gene once); proteins beyond the table are `PROTEIN<i>` without a link. Other genes are `GENE<i>`.
    n_cell_types
        Cell types, of unequal size.
    paired
        The same cells in every modality, under the same names; else disjoint sets of cells of the same tissue.
    seed
        Same arguments and seed: the same data.
    n_latent
        Latent dimensions.
    n_batches
        Batches, with small differences in capture per feature; column `batch`.
    umis
        Median RNA counts of a cell.
    link_strength
        Correlation, from 0 to 1, of the true log level of a protein with that of its gene, on average over proteins.
    n_markers
        Cytometry channels; 0 for none. In paired data, RNA and protein stay what they are without them, but for the
        names of the genes that code for the further markers.

    Returns
    -------
    MuData
        Modalities `rna` and `protein`, each with raw counts as float32 CSR in X and ``layers["counts"]``,
        ``obs`` `cell_type` and `batch` (categorical) and `state` (-1 to 1, the place along the type's gradient),
        ``obsm["truth"]`` the latent (n x `n_latent`, float32), and ``var["partner"]`` the coding gene or, in RNA, the
        antigen (empty without one). `cytometry` is alike, with intensities of 0 to some thousands as dense float32 in
        X, no counts, and ``var["protein"]`` the name of the marker in the protein panel (empty without one).

    Raises
    ------
    InputError
        A number is out of range; all of them at once.
    """
    problems = too_small(
        ("the number of cells", n_cells, 2),
        ("the number of genes", n_genes, 10),
        ("the number of proteins", n_proteins, 3),
        ("the number of cell types", n_cell_types, 1),
        ("the number of latent dimensions", n_latent, 2),
        ("the number of batches", n_batches, 1),
        ("the number of UMIs", umis, 1),
        ("the seed", seed, 0),
    )
    if n_genes < n_proteins:
        problems.append(f"every protein needs its gene: {n_genes} genes are fewer than {n_proteins} proteins")
    if n_markers != 0 and n_markers < 3:
        problems.append(f"the number of cytometry markers must be 0, or 3 or more, not {n_markers}")
    n_shared = min(round(SHARED_MARKERS * n_markers), n_proteins)
    n_further = n_markers - n_shared
    if n_proteins <= n_genes < n_proteins + n_further:
        problems.append(
            f"every marker needs its gene: {n_genes} genes are fewer than {n_proteins} proteins and the {n_further} "
            "cytometry markers that are not among them"
        )
    if n_cells < n_cell_types:
        problems.append(f"every cell type needs a cell: {n_cells} cells are fewer than {n_cell_types} types")
    if not 0 <= link_strength <= 1:
        problems.append(f"the link strength must be between 0 and 1, not {link_strength}")
    if problems:
        raise InputError(problems)

    rng = np.random.default_rng(seed)
    n_sets = 1 if paired else 3 if n_markers else 2
    latent, obs = _cells(rng, n_sets * n_cells, n_cell_types, n_latent, n_batches)
    known = _linked_antigens(n_proteins + n_further)
    antigens, further = known[:n_proteins], known[n_proteins:]
    proteins = [name for name, _ in antigens] + [f"PROTEIN{i}" for i in range(len(antigens) + 1, n_proteins + 1)]
    linked_genes = [gene for _, gene in antigens]
    genes = linked_genes + [f"GENE{i}" for i in range(1, n_genes - len(linked_genes) + 1)]
    genes[n_proteins : n_proteins + len(further)] = [gene for _, gene in further]

    rna_cells = slice(0, n_cells)
    protein_cells = rna_cells if paired else slice(n_cells, 2 * n_cells)
    batch = obs["batch"].cat.codes.to_numpy()
    gene_levels = _levels(rng, latent, n_genes)
    rna_counts = _rna_counts(rng, gene_levels[rna_cells], batch[rna_cells], n_linked=len(antigens), umis=umis)
    protein_levels = _protein_levels(rng, latent, gene_levels[:, :n_proteins], link_strength)
    protein_counts = _protein_counts(rng, protein_levels[protein_cells], batch[protein_cells])

    names_of_antigens = [name for name, _ in known]
    modalities = {
        "rna": _modality(rna_counts, obs.iloc[rna_cells], latent[rna_cells], genes, names_of_antigens),
        "protein": _modality(protein_counts, obs.iloc[protein_cells], latent[protein_cells], proteins, linked_genes),
    }
    if n_markers:
        cells = rna_cells if paired else slice(2 * n_cells, 3 * n_cells)
        shared = np.linspace(0, n_proteins - 1, n_shared).round().astype(int)
        own_genes = gene_levels[:, n_proteins : n_proteins + n_further]
        levels = np.hstack([protein_levels[:, shared], _protein_levels(rng, latent, own_genes, link_strength)])
        intensities = _intensities(rng, levels[cells], batch[cells])
        modalities["cytometry"] = _cytometry(
            intensities, obs.iloc[cells], latent[cells], modalities["protein"].var.iloc[shared], further
        )
    return _mudata(modalities)


def write_simulation(mdata: MuData, folder: str | Path) -> Path:
    """Write a simulation as the pipeline's input: a file for each modality and a samplesheet that names them.

    Parameters
    ----------
    mdata
        From :func:`simulate`.
    folder
        Made if it is not there; holds `rna.h5ad`, `protein.h5ad`, `cytometry.h5ad` where there is one, and
        `samplesheet.csv` (paths relative to it).

    Returns
    -------
    Path
        The samplesheet.

    Raises
    ------
    InputError
        The folder cannot be written to.
    """
    from scmodal.io import check_writable, write_h5ad

    folder = Path(folder)
    check_writable(folder)
    for name, adata in mdata.mod.items():
        write_h5ad(adata, folder / f"{name}.h5ad")
    batches = any(len(adata.obs["batch"].cat.categories) > 1 for adata in mdata.mod.values())
    return write_sheet(folder, list(mdata.mod), batches)


def write_sheet(folder: Path, modalities: list[str], batches: bool) -> Path:
    """Samplesheet of the simulated files in a folder; `batches`: whether there are several."""
    from scmodal.io import atomic_path

    sheet = pd.DataFrame(
        {
            "sample": SAMPLE,
            "modality": modalities,
            "path": [f"{name}.h5ad" for name in modalities],
            "label_key": "cell_type",
            "batch_key": "batch" if batches else "",
        }
    )
    path = folder / "samplesheet.csv"
    # Last, so that a sheet never names files that are not there.
    with atomic_path(path) as temporary:
        sheet.to_csv(temporary, index=False)
    return path


def _linked_antigens(n: int) -> list[tuple[str, str]]:
    """Up to n (antigen, human gene) from the built-in table: proteins of one gene, each gene once."""
    source = resources.files("scmodal").joinpath("data/antigens.tsv")
    with source.open(encoding="utf-8") as handle:
        table = pd.read_csv(handle, sep="\t", dtype=str, keep_default_na=False)
    # Noted ones are isoforms, complexes and carbohydrates: not the plain product of the gene beside them.
    plain = table[(table["human"] != "") & ~table["human"].str.contains(";", regex=False) & (table["note"] == "")]
    plain = plain.drop_duplicates("human").head(n)
    return list(zip(plain["antigen"].tolist(), plain["human"].tolist()))


def _cells(
    rng: np.random.Generator, n: int, n_types: int, n_latent: int, n_batches: int
) -> tuple[np.ndarray, pd.DataFrame]:
    """Latent (n x n_latent) and obs of n cells."""
    n_lineages = max(1, round(np.sqrt(n_types)))
    lineages = rng.normal(size=(n_lineages, n_latent))
    centres = lineages[np.arange(n_types) % n_lineages] + 0.8 * rng.normal(size=(n_types, n_latent))
    gradients = rng.normal(size=(n_types, n_latent))
    gradients /= np.linalg.norm(gradients, axis=1, keepdims=True)
    # Unequal sizes, but no type so rare that a small simulation lacks it.
    share = 0.3 / n_types + 0.7 * rng.dirichlet(np.full(n_types, 3.0))
    types = rng.choice(n_types, size=n, p=share)
    types[rng.permutation(n)[:n_types]] = np.arange(n_types)
    state = rng.uniform(-1, 1, size=n)
    latent = centres[types] + 0.9 * state[:, None] * gradients[types] + 0.2 * rng.normal(size=(n, n_latent))
    width = len(str(n_types))
    names = [f"type_{i + 1:0{width}d}" for i in range(n_types)]
    batches = [f"batch_{i + 1}" for i in range(n_batches)]
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical.from_codes(types, categories=pd.Index(names)),
            "batch": pd.Categorical.from_codes(rng.integers(n_batches, size=n), categories=pd.Index(batches)),
            "state": state.astype(np.float32),
        },
        index=pd.Index([f"CELL{i + 1:0{len(str(n))}d}" for i in range(n)]),
    )
    return latent, obs


def _standardise(values: np.ndarray) -> np.ndarray:
    """Columns of mean 0 and standard deviation 1; constant columns 0."""
    centred = values - values.mean(axis=0)
    deviation = centred.std(axis=0)
    return np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 0)


def _levels(rng: np.random.Generator, latent: np.ndarray, n_features: int) -> np.ndarray:
    """Standardised log level of each feature (cells x features), linear in about three latent dimensions each."""
    return _standardise(latent @ _loadings(rng, latent.shape[1], n_features))


def _loadings(rng: np.random.Generator, n_latent: int, n_features: int) -> np.ndarray:
    """How the features' levels depend on the latent (n_latent x features)."""
    keep = rng.random((n_latent, n_features)) < min(1.0, 3.0 / n_latent)
    keep[rng.integers(n_latent, size=n_features), np.arange(n_features)] = True
    return keep * rng.normal(size=(n_latent, n_features))


def _rna_counts(
    rng: np.random.Generator, levels: np.ndarray, batch: np.ndarray, n_linked: int, umis: float
) -> sp.csr_matrix:
    """Negative binomial counts: few genes take most of the depth, a third of the genes vary much."""
    n: int = levels.shape[0]
    n_genes: int = levels.shape[1]
    genes = _genes(rng, n_genes, int(batch.max()) + 1, n_linked)
    depth = np.exp(rng.normal(np.log(umis), 0.3, size=n))
    dispersion = rng.uniform(1.0, 4.0, size=n_genes)
    return _negative_binomial(rng, genes.mean_counts(levels, batch, depth), dispersion)


@dataclass
class _Genes:
    """What the counts of the genes depend on, beside the cells' latent and depth."""

    abundance: np.ndarray
    effect: np.ndarray
    capture: np.ndarray
    """Batches x genes."""

    def mean_counts(self, levels: np.ndarray, batch: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Expected counts, cells x genes."""
        log_rate = self.abundance + self.effect * levels + self.capture[batch]
        rate = np.exp(log_rate - log_rate.max(axis=1, keepdims=True))
        return np.asarray(rate / rate.sum(axis=1, keepdims=True) * depth[:, None])


def _genes(rng: np.random.Generator, n_genes: int, n_batches: int, n_linked: int) -> _Genes:
    abundance = rng.normal(0.0, 2.2, size=n_genes)
    effect = np.where(rng.random(n_genes) < 1 / 3, rng.uniform(0.6, 1.2, size=n_genes), 0.1)
    # Genes of surface markers: neither the most abundant ones nor all but absent, and they tell types apart.
    abundance[:n_linked] = rng.normal(-0.5, 1.0, size=n_linked)
    effect[:n_linked] = rng.uniform(0.7, 1.3, size=n_linked)
    return _Genes(abundance, effect, rng.normal(0.0, 0.1, size=(n_batches, n_genes)))


def _protein_levels(
    rng: np.random.Generator, latent: np.ndarray, gene_levels: np.ndarray, link_strength: float
) -> np.ndarray:
    """Standardised true log level of each protein: its gene's in part, and a function of the latent of its own."""
    n_proteins = gene_levels.shape[1]
    spread = min(0.25, link_strength, 1 - link_strength)
    strength = rng.uniform(link_strength - spread, link_strength + spread, size=n_proteins)
    own = _levels(rng, latent, n_proteins)
    # The part that the gene does not explain, or the strengths would not be the correlations that they are said to be.
    own = _standardise(own - gene_levels * (own * gene_levels).mean(axis=0))
    return strength * gene_levels + np.sqrt(1 - strength**2) * own


def _protein_counts(rng: np.random.Generator, levels: np.ndarray, batch: np.ndarray) -> sp.csr_matrix:
    """Negative binomial counts of bound antibody over a background of free antibody."""
    n: int = levels.shape[0]
    n_proteins: int = levels.shape[1]
    bound = np.exp(rng.normal(3.0, 0.8, size=n_proteins) + rng.uniform(0.8, 1.6, size=n_proteins) * levels)
    free = np.exp(rng.normal(1.5, 0.7, size=n_proteins)) * np.exp(rng.normal(0.0, 0.4, size=n))[:, None]
    capture = np.exp(rng.normal(0.0, 0.1, size=(int(batch.max()) + 1, n_proteins)))
    size = np.exp(rng.normal(0.0, 0.3, size=n))[:, None]
    dispersion = rng.uniform(2.0, 6.0, size=n_proteins)
    return _negative_binomial(rng, (bound + free) * capture[batch] * size, dispersion)


def _intensities(rng: np.random.Generator, levels: np.ndarray, batch: np.ndarray) -> np.ndarray:
    """Raw signals of a mass cytometer (cells x markers, float32): many ions of what is bound, and a few of noise."""
    n: int = levels.shape[0]
    n_markers: int = levels.shape[1]
    bound = np.exp(rng.normal(3.5, 0.8, size=n_markers) + rng.uniform(0.8, 1.4, size=n_markers) * levels)
    capture = np.exp(rng.normal(0.0, 0.1, size=(int(batch.max()) + 1, n_markers)))
    size = np.exp(rng.normal(0.0, 0.25, size=n))[:, None]
    ions = rng.poisson(bound * capture[batch] * size * np.exp(rng.normal(0.0, 0.3, size=levels.shape)))
    return (ions + rng.exponential(1.0, size=levels.shape)).astype(np.float32)


def _negative_binomial(rng: np.random.Generator, mean: np.ndarray, dispersion: np.ndarray) -> sp.csr_matrix:
    """Counts of the given mean and variance mean + mean^2 / dispersion, float32 CSR."""
    counts = rng.poisson(mean * rng.gamma(dispersion, 1 / dispersion, size=mean.shape)).astype(np.float32)
    # A cell without a single count would be dropped on preparation, and with it one half of a pair.
    empty = np.flatnonzero(counts.sum(axis=1) == 0)
    counts[empty, mean[empty].argmax(axis=1)] = 1
    return sp.csr_matrix(counts)


def _modality(
    counts: sp.csr_matrix, obs: pd.DataFrame, latent: np.ndarray, names: list[str], partners: list[str]
) -> ad.AnnData:
    """One modality; the first features have partners in the other."""
    partner = np.array([*partners, *[""] * (len(names) - len(partners))], dtype=object)
    adata = ad.AnnData(X=counts, obs=obs.copy(), var=pd.DataFrame({"partner": partner}, index=pd.Index(names)))
    adata.layers["counts"] = counts.copy()
    adata.obsm["truth"] = latent.astype(np.float32)
    return adata


def _cytometry(
    intensities: np.ndarray, obs: pd.DataFrame, latent: np.ndarray, shared: pd.DataFrame, further: list[tuple[str, str]]
) -> ad.AnnData:
    """The cytometer's modality: markers of the protein panel (rows of its var), then (antigen, gene) of others."""
    n_shared, n_unknown = len(shared), intensities.shape[1] - len(shared) - len(further)
    names = [*shared.index, *(name for name, _ in further), *(f"MARKER{i}" for i in range(1, n_unknown + 1))]
    var = pd.DataFrame(
        {
            "partner": np.array([*shared["partner"], *(g for _, g in further), *[""] * n_unknown], dtype=object),
            "protein": np.array([*shared.index, *[""] * (len(names) - n_shared)], dtype=object),
        },
        index=pd.Index(names),
    )
    adata = ad.AnnData(X=intensities, obs=obs.copy(), var=var)
    adata.obsm["truth"] = latent.astype(np.float32)
    return adata


def _mudata(modalities: dict[str, ad.AnnData]) -> MuData:
    """All modalities; a protein may have the name of its gene, which is no reason for a warning."""
    import mudata

    from scmodal.io import mudata_options

    with warnings.catch_warnings(), mudata_options():
        warnings.filterwarnings("ignore", message="var_names are not unique", category=UserWarning)
        return mudata.MuData(modalities)

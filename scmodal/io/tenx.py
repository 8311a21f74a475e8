"""Matrices of 10x Genomics: HDF5 files and folders."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp

from ..contracts import InputError
from .kinds import ENSEMBL_ID, mtx_folder, open_hdf5, open_text, strings, tenx_groups
from .modality import from_anndata
from .names import text_index
from .wording import FEATURE_TYPES, reading, some, wrong_types

if TYPE_CHECKING:
    from anndata import AnnData


UNMAPPED = "unmapped"
"""Row that CITE-seq-Count puts below the antibodies: reads of no known tag."""


def tenx_feature_types(group: h5py.Group) -> np.ndarray:
    """Feature type of every row of a 10x HDF5 file; empty where it is not said."""
    if "features" in group and "feature_type" in group["features"]:
        return strings(group["features"]["feature_type"])
    # Files of this layout are of Cell Ranger before 3, which counted nothing but genes.
    old = "genes" in group
    n = group["genes"].shape[0] if old else int(group["shape"][0])
    return np.full(n, FEATURE_TYPES["rna"] if old else "", dtype=object)


def with_types(types: np.ndarray, ids: Iterable[str], modality: str) -> np.ndarray:
    """Feature types where none is said: what is asked for, but genes where the ids say so.

    Folders without types are written by many programs, of antibodies as of genes (CITE-seq-Count, DropletUtils, Cell
    Ranger before 3), so that they do not tell what they hold.
    """
    if len(types) == 0 or (types != "").any():
        return np.where(types == "", FEATURE_TYPES["rna"], types)
    ids = list(ids)
    genes = np.mean([bool(ENSEMBL_ID.fullmatch(i)) for i in ids]) > 0.5
    assumed = FEATURE_TYPES["rna"] if genes else FEATURE_TYPES.get(modality, FEATURE_TYPES["rna"])
    return np.array([UNMAPPED if i == UNMAPPED else assumed for i in ids], dtype=object)


def tenx_group(store: h5py.File, name: str) -> h5py.Group:
    """The one matrix of a 10x HDF5 file."""
    groups = tenx_groups(store)
    if not groups:
        raise InputError(f"{name}: no 10x matrix inside")
    if len(groups) > 1:
        raise InputError(
            f"{name}: several genomes in one 10x file ({some(groups)}); cut it down to one, with one matrix per file"
        )
    return store[groups[0]]


def count_type(types: np.ndarray, modality: str, name: str) -> int:
    """How many features are of the 10x type that the modality asks for; none is an error."""
    n = int((types == FEATURE_TYPES.get(modality)).sum())
    if n == 0 and len(types):
        raise InputError(wrong_types(sorted(set(types)), modality, name))
    return n


@dataclass(frozen=True)
class _MtxFiles:
    """The three files of a 10x folder."""

    matrix: Path
    features: Path
    barcodes: Path


def mtx_files(path: Path, name: str) -> _MtxFiles:
    """Matrix, features and barcodes of a 10x folder."""
    folder = mtx_folder(path, name)
    files = sorted(p for p in folder.iterdir() if p.is_file())
    matrices = [p for p in files if p.name.endswith(("matrix.mtx", "matrix.mtx.gz"))]
    # The same file packed and unpacked side by side is one file.
    stems = {p.name.removesuffix(".gz"): p for p in matrices}
    if len(stems) > 1:
        raise InputError(f"{name}: several matrices in one folder ({some(sorted(stems))}); one folder per matrix")
    matrix = matrices[0]
    prefix = matrix.name.removesuffix(".gz").removesuffix("matrix.mtx")

    def companion(*names: str) -> Path:
        for own in names:
            for suffix in (".gz", ""):
                candidate = folder / f"{prefix}{own}{suffix}"
                if candidate.is_file():
                    return candidate
        wanted = " or ".join(f"{prefix}{own}[.gz]" for own in names)
        raise InputError(f"{name}: {wanted} is missing beside {matrix.name}; copy the whole 10x folder")

    return _MtxFiles(matrix, companion("features.tsv", "genes.tsv", "peaks.bed"), companion("barcodes.tsv"))


def mtx_features(path: Path) -> pd.DataFrame:
    """Rows of features.tsv, genes.tsv or peaks.bed: id, name, feature_type (empty where it is not said)."""
    with open_text(path) as handle:
        rows = [line.rstrip("\r\n").split("\t") for line in handle if line.strip() and not line.startswith("#")]
    if path.name.removesuffix(".gz").endswith(".bed"):
        rows = [[f"{r[0]}:{r[1]}-{r[2]}" if len(r) > 2 else r[0], "", FEATURE_TYPES["atac"]] for r in rows]
    return pd.DataFrame(
        {
            "id": [r[0] for r in rows],
            "name": [r[1] if len(r) > 1 and r[1] else r[0] for r in rows],
            "feature_type": [r[2] if len(r) > 2 else "" for r in rows],
        },
        dtype=object,
    )


def _tenx_result(
    matrix: sp.csr_matrix, barcodes: np.ndarray, features: pd.DataFrame, modality: str, name: str
) -> AnnData:
    """AnnData of one feature type from a whole 10x matrix (cells x features)."""
    from anndata import AnnData

    if matrix.shape != (len(barcodes), len(features)):
        raise InputError(
            f"{name}: the matrix has {matrix.shape[1]:,} features and {matrix.shape[0]:,} cells, but {len(features):,} "
            f"feature names and {len(barcodes):,} barcodes are there; the files do not belong together"
        )
    told = features["feature_type"].to_numpy()
    types = with_types(told, features["id"], modality)
    n = count_type(types, modality, name)
    notes = []
    if not (told != "").any() and n:
        notes.append(f"The features have no types there and were taken as {FEATURE_TYPES[modality]!r}.")
    if n < len(types) - int((types == UNMAPPED).sum()):
        notes.append(f"{n:,} of {len(types):,} features are {FEATURE_TYPES[modality]!r} and were taken.")
    if (types == UNMAPPED).any():
        notes.append(f"The row {UNMAPPED!r} (reads of no known tag) was left out.")
    keep = np.flatnonzero(types == FEATURE_TYPES[modality])
    part = features.iloc[keep]
    # Peaks have no symbol worth a name: their id is the interval.
    index = part["id"] if modality == "atac" else part["name"]
    var = pd.DataFrame(
        {"gene_id": part["id"].to_numpy(), "feature_types": types[keep]},
        index=pd.Index(index.to_numpy(), dtype=object),
    )
    adata = AnnData(
        X=matrix[:, keep] if n < len(types) else matrix,
        obs=pd.DataFrame(index=text_index(pd.Index(barcodes))),
        var=var,
    )
    return from_anndata(adata, modality, name, messages=notes, number_duplicates=True)


def read_tenx_h5(path: Path, modality: str, name: str) -> AnnData:
    """One modality of a 10x HDF5 file."""
    with open_hdf5(path, name) as store, reading(name, "10x HDF5"):
        group = tenx_group(store, name)
        n_features, n_cells = (int(n) for n in group["shape"][()])
        # Stored as features x cells by column, which is cells x features by row: nothing needs turning.
        matrix = sp.csr_matrix(
            (group["data"][()], group["indices"][()], group["indptr"][()]), shape=(n_cells, n_features)
        )
        matrix.check_format()
        if "features" in group:
            ids, names = strings(group["features"]["id"]), strings(group["features"]["name"])
        else:
            ids, names = strings(group["genes"]), strings(group["gene_names"])
        features = pd.DataFrame({"id": ids, "name": names, "feature_type": tenx_feature_types(group)}, dtype=object)
        barcodes = strings(group["barcodes"])
    return _tenx_result(matrix, barcodes, features, modality, name)


def read_tenx_mtx(path: Path, modality: str, name: str) -> AnnData:
    """One modality of a 10x matrix folder."""
    from scipy.io import mmread

    files = mtx_files(path, name)
    with reading(name, "10x matrix folder"):
        features = mtx_features(files.features)
        with open_text(files.barcodes) as handle:
            barcodes = np.array([line.strip().split("\t")[0] for line in handle if line.strip()], dtype=object)
        matrix = sp.csr_matrix(mmread(files.matrix).T)
    return _tenx_result(matrix, barcodes, features, modality, name)

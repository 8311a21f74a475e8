"""Files that may be too large for memory: their matrices stay on disk and are read row by row."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py

from ..contracts import InputError, canonical_modality, check_prepared
from .kinds import open_zarr, sniff, stored_matrices
from .modality import Checked, check_modality, pick_modality
from .reading import add_shared
from .wording import reading
from .writing import mudata_options, plain

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


PEAKS = "peaks"
"""Key of the raw counts of peaks in ``obsm``, and of the peaks' names in ``uns["scmodal"]``."""

MEMORY_VARIABLE = "SCMODAL_IN_MEMORY_GB"
"""Environment variable: data that would take more memory than this many GB are read and computed in pieces."""

IN_MEMORY_GB = 1.5
"""Its default."""


def in_memory_limit() -> float:
    """Bytes above which data stay on disk.

    Raises
    ------
    InputError
        The environment variable is not a number of 0 or more.
    """
    text = os.environ.get(MEMORY_VARIABLE, "")
    try:
        limit = float(text or IN_MEMORY_GB)
    except ValueError:
        limit = -1.0
    if not limit >= 0:
        raise InputError(
            f"environment variable {MEMORY_VARIABLE}={text!r}: expected a number of gigabytes, for example 1.5"
        )
    return limit * 1e9


def _bytes_in_memory(item: Any) -> int:
    """Memory that a stored matrix would take: float32 and 32-bit positions where it is sparse."""
    if hasattr(item, "keys"):
        return 8 * int(item["data"].shape[0]) if "data" in item else 0
    return 4 * math.prod(item.shape or (0,))


def _matrix_bytes(path: Path) -> int:
    """Memory that the matrices of a prepared file would take, if they are counts (else 0: they are read whole)."""
    with h5py.File(path, "r") as file:
        if "layers/counts" not in file:
            return 0
        return sum(_bytes_in_memory(item) for item in stored_matrices(file).values())


def _as_stored(item: Any) -> Any:
    """A stored matrix, of which nothing is read."""
    from anndata.io import sparse_dataset

    return sparse_dataset(item) if hasattr(item, "keys") else item


def _open_matrix(item: Any, name: str) -> Any:
    """A stored matrix whose rows are read when they are sliced."""
    matrix = _as_stored(item)
    if getattr(matrix, "format", "csr") != "csr":
        raise InputError(
            f"{name}: the matrix is stored by feature (CSC) and too large to be read whole; store it by cell (CSR: "
            f"adata.X = adata.X.tocsr()), or set {MEMORY_VARIABLE} above its size in gigabytes"
        )
    return matrix


def _obsm(group: Any, peaks: bool = True) -> dict[str, Any]:
    """What is in ``obsm`` of an h5ad, on demand without the counts of peaks."""
    from anndata.io import read_elem

    if "obsm" not in group:
        return {}
    stored = group["obsm"]  # of h5py or zarr, which share keys() but not items()
    return {key: read_elem(stored[key]) for key in stored.keys() if peaks or key != PEAKS}  # noqa: SIM118


def _open_h5ad(group: Any, name: str, with_raw: bool, peaks: bool = True) -> AnnData:
    """An AnnData whose X, counts and raw stay in the open file; everything else is read."""
    from anndata import AnnData
    from anndata.io import read_elem

    stored = {where: item for where, item in stored_matrices(group).items() if _bytes_in_memory(item)}
    found = {where: _open_matrix(item, name) for where, item in stored.items()}
    layers = {"counts": found["layers/counts"]} if "layers/counts" in found else {}
    if with_raw and "layers" in group:
        # Where counts are nowhere else, these are named.
        others = {key: group["layers"][key] for key in group["layers"].keys() if key != "counts"}  # noqa: SIM118
        layers |= {key: _as_stored(item) for key, item in others.items() if _bytes_in_memory(item)}
    return AnnData(
        X=found.get("X"),
        obs=read_elem(group["obs"]),
        var=read_elem(group["var"]),
        uns=read_elem(group["uns"]) if "uns" in group else {},
        obsm=_obsm(group, peaks),
        layers=layers,
        raw={"X": found["raw"], "var": read_elem(group["raw/var"])} if with_raw and "raw" in found else None,
    )


COPIES = 3
"""How often preparation in memory holds the matrices of a file."""


def open_counts(path: str | Path, modality: str, name: str | None = None) -> Checked | None:
    """Check one modality of a file too large to be read whole, and leave its counts there.

    Parameters
    ----------
    path
        ``.h5ad``, ``.zarr`` or ``.h5mu``; see :func:`read_modality`.
    modality
        Canonical name or alias.
    name
        What to call the file in messages; default its path.

    Returns
    -------
    Checked
        With a matrix whose rows are read when they are sliced; None where :func:`read_modality` is to be used: the
        file is of another kind, or fits in memory (:data:`COPIES` times its matrices within
        :func:`in_memory_limit`).

    Raises
    ------
    InputError
        As for :func:`read_modality`; or a large matrix that is stored by feature.
    """
    from anndata.io import read_elem

    path = Path(path)
    name = name or str(path)
    modality = canonical_modality(modality)
    kind = sniff(path, name)
    # Peaks become gene activity first, and stay in memory as they are: sparse.
    if kind not in {"h5ad", "zarr", "h5mu"} or modality in ("cytometry", "atac"):
        return None
    with reading(name, kind):
        file = open_zarr(path) if kind == "zarr" else h5py.File(path, "r")
        group = file if kind != "h5mu" else file["mod"][pick_modality(list(file["mod"]), modality, name)]
        if COPIES * sum(_bytes_in_memory(item) for item in stored_matrices(group).values()) <= in_memory_limit():
            return None
        adata = _open_h5ad(group, name, with_raw=True)
        notes: list[str] = []
        if kind == "h5mu" and "obs" in file:
            add_shared(adata, read_elem(file["obs"]), notes)
        checked = check_modality(adata, modality, name, notes)
    checked.own["source"] = [path.name]
    return checked


def _plain_uns(adata: AnnData) -> None:
    """Make uns["scmodal"] what it was before it went through HDF5: str, int, float, list."""
    own = adata.uns.get("scmodal")
    if own is not None:
        adata.uns["scmodal"] = plain(dict(own))


def _integrated_modality(path: Path) -> str | None:
    """A modality of an h5mu that an integration wrote; None for any other."""
    with h5py.File(path, "r") as file:
        return str(next(iter(file["mod"]), "rna")) if "uns/scmodal/modalities" in file else None


def read_prepared(path: str | Path, peaks: bool = True) -> AnnData:
    """Read a file that ``scmodal preprocess`` wrote.

    Parameters
    ----------
    path
        The prepared ``.h5ad``.
    peaks
        Read the counts of peaks of chromatin, too, which are much larger than all the rest and which the engine does
        not need.

    Returns
    -------
    AnnData
        Where its matrices would take more memory than :func:`in_memory_limit`, they stay in the open file
        (``anndata.abc.CSRDataset``) and their rows are read when they are sliced.

    Raises
    ------
    InputError
        Missing, damaged, or no prepared file.
    """
    import anndata
    from anndata import AnnData
    from anndata.io import read_elem

    path = Path(path)
    kind = sniff(path)
    if kind == "h5mu" and (modality := _integrated_modality(path)):
        raise InputError(
            f"{path}: the result of an integration, where the prepared .h5ad of a modality is needed; "
            f"give what `scmodal preprocess` wrote before it, such as preprocess/{modality}.h5ad"
        )
    if kind != "h5ad":
        raise InputError(
            f"{path}: a prepared .h5ad is needed here, this is {kind}; run `scmodal preprocess` on it first"
        )
    with reading(str(path), "h5ad"):
        if _matrix_bytes(path) > in_memory_limit():
            adata = _open_h5ad(h5py.File(path, "r"), str(path), with_raw=False, peaks=peaks)
        elif peaks:
            adata = anndata.read_h5ad(path)
        else:
            with h5py.File(path, "r") as file:
                parts = {key: read_elem(file[key]) for key in ("X", "layers", "obs", "var", "uns") if key in file}
                adata = AnnData(**parts, obsm=_obsm(file, peaks))
    if not peaks and "scmodal" in adata.uns:
        adata.uns["scmodal"].pop(PEAKS, None)
    _plain_uns(adata)
    check_prepared(adata, str(path))
    return adata


def read_h5mu(path: str | Path) -> MuData:
    """Read a MuData file, such as ``integrated.h5mu``.

    Returns
    -------
    MuData
        Where its matrices would take more memory than :func:`in_memory_limit`, those stored by cell stay in the open
        file, as :func:`read_prepared` leaves them, and raw is left out.

    Raises
    ------
    InputError
        Missing, damaged, or no MuData.
    """
    import mudata
    from anndata.io import read_elem

    path = Path(path)
    kind = sniff(path)
    if kind != "h5mu":
        raise InputError(f"{path}: an .h5mu (MuData) is needed here, this is {kind}")
    with reading(str(path), "h5mu"), mudata_options():
        file = h5py.File(path, "r")
        stored = [matrix for group in file["mod"].values() for matrix in stored_matrices(group).values()]
        if sum(_bytes_in_memory(matrix) for matrix in stored) > in_memory_limit():
            order = [str(name) for name in file["mod"].attrs.get("mod-order", list(file["mod"]))]
            mdata = mudata.MuData({name: _open_h5ad(file["mod"][name], str(path), with_raw=False) for name in order})
            mdata.uns = read_elem(file["uns"]) if "uns" in file else {}
        else:
            file.close()
            mdata = mudata.read_h5mu(path)
    for adata in mdata.mod.values():
        _plain_uns(adata)
    if "scmodal" in mdata.uns:
        mdata.uns["scmodal"] = plain(dict(mdata.uns["scmodal"]))
    return mdata

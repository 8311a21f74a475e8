"""One modality of a file, whatever its format."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from ..contracts import InputError, canonical_modality
from .fcs import read_fcs
from .kinds import open_hdf5, sniff
from .modality import from_anndata, pick_modality
from .tables import read_table
from .tenx import read_tenx_h5, read_tenx_mtx
from .wording import only_atac, reading, some

if TYPE_CHECKING:
    from anndata import AnnData


def _read_h5ad(path: Path, modality: str, name: str) -> AnnData:
    import anndata

    with reading(name, "h5ad"):
        adata = anndata.read_h5ad(path)
    return from_anndata(adata, modality, name)


def _read_zarr(path: Path, modality: str, name: str) -> AnnData:
    import anndata

    with reading(name, "zarr"):
        adata = anndata.read_zarr(path)
    return from_anndata(adata, modality, name)


def _read_h5mu(path: Path, modality: str, name: str) -> AnnData:
    import mudata
    from anndata.io import read_elem

    notes: list[str] = []
    with open_hdf5(path, name) as store, reading(name, "h5mu"):
        key = pick_modality(list(store["mod"]), modality, name)
        shared = read_elem(store["obs"]) if "obs" in store else pd.DataFrame()
    with reading(name, "h5mu"):
        adata = mudata.read_h5ad(path, mod=key)
    add_shared(adata, shared, notes)
    return from_anndata(adata, modality, name, messages=notes)


def add_shared(adata: AnnData, shared: pd.DataFrame, notes: list[str]) -> None:
    """Annotation of cells that lies beside a MuData's modalities: what the modality lacks is added by cell name."""
    shared = shared.drop(columns=[c for c in shared.columns if str(c) in adata.obs or ":" in str(c)])
    if len(shared.columns) and shared.index.is_unique:
        extra = shared.reindex(adata.obs_names)
        filled = [c for c in extra.columns if extra[c].notna().any()]
        if filled:
            adata.obs = adata.obs.join(extra[filled]) if adata.obs_names.is_unique else adata.obs
            notes.append(f"Columns of the MuData's own obs were added: {some(filled)}.")


_READERS = {
    "h5ad": _read_h5ad,
    "zarr": _read_zarr,
    "h5mu": _read_h5mu,
    "10x_h5": read_tenx_h5,
    "10x_mtx": read_tenx_mtx,
    "fcs": read_fcs,
}


def read_modality(
    path: str | Path, modality: str, obs_columns: Collection[str] = (), name: str | None = None
) -> AnnData:
    """Read one modality of a file, whatever its format.

    Parameters
    ----------
    path
        ``.h5ad``, ``.zarr`` (of an AnnData), ``.h5mu``, 10x ``.h5``, 10x matrix folder, ``.csv``/``.tsv`` (also
        ``.gz``; names of features in the first line and of cells in the first column, or the other way round where the
        names show it) or ``.fcs``. Told by content, not by name.
    modality
        Canonical name or alias; picks the modality of a file that holds several.
    obs_columns
        Columns of a table that are annotation of the cells although they hold numbers.
    name
        What to call the file in messages; default its path.

    Returns
    -------
    AnnData
        As :func:`from_anndata` gives it.

    Raises
    ------
    InputError
        Anything wrong with the file, with its name and the mend.
    """
    path = Path(path)
    name = name or str(path)
    modality = canonical_modality(modality)
    kind = sniff(path, name)
    with warnings.catch_warnings():
        # Repeated names are numbered or refused here, and said in either case.
        warnings.filterwarnings("ignore", message=".*names are not unique")
        if kind == "table":
            adata = read_table(path, modality, name, obs_columns)
        elif kind == "fragments":
            only_atac(modality, name)
            raise InputError(f"{name}: a fragments file, no matrix; read it with scmodal.chromatin.read_atac")
        else:
            adata = _READERS[kind](path, modality, name)
    adata.uns["scmodal"]["source"] = [path.name]
    return adata

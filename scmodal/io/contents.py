"""Looking into a file without loading its matrix: what a samplesheet is checked by."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..contracts import InputError, canonical_modality
from .fcs import flow_data
from .kinds import INTERVAL, open_hdf5, open_text, open_zarr, sniff, strings
from .modality import check_feature_types, pick_modality
from .tables import table_header
from .tenx import count_type, mtx_features, mtx_files, tenx_feature_types, tenx_group, with_types
from .wording import empty_matrix, missing_key, only_atac, only_cytometry


@dataclass(frozen=True)
class Contents:
    """What a light look into a file says about one modality of it."""

    kind: str
    """As :func:`sniff` calls it."""
    n_cells: int | None
    """Number of cells; None where only reading all of it would tell."""
    n_features: int | None
    obs_columns: tuple[str, ...]
    """Names of the columns of the cell annotation (of a table: all its columns)."""


def _frame_columns(item: Any) -> tuple[str, ...]:
    """Columns of a data frame in an h5ad, old or new layout."""
    if isinstance(item, h5py.Dataset):  # before anndata 0.7: one compound data set
        return tuple(n for n in (item.dtype.names or ()) if n not in ("index", "_index"))
    index = item.attrs.get("_index", "_index")
    order = item.attrs.get("column-order")
    names = list(order) if order is not None else [k for k in item if k != "__categories"]
    decoded = [n.decode() if isinstance(n, bytes) else str(n) for n in names]
    return tuple(n for n in decoded if n != index)


def _frame_length(item: Any) -> int:
    if isinstance(item, h5py.Dataset):
        return int(item.shape[0])
    index = item.attrs.get("_index", "_index")
    entry = item[index.decode() if isinstance(index, bytes) else index]
    if hasattr(entry, "keys"):  # nullable strings: values and mask
        entry = entry["values"] if "values" in entry else entry["codes"]
    return int(entry.shape[0])


def _feature_types(var: Any) -> list[str]:
    """Different values of var["feature_types"] in an h5ad, if that column is there."""
    if not isinstance(var, h5py.Group) or "feature_types" not in var:
        return []
    column = var["feature_types"]
    if isinstance(column, h5py.Group):
        values = column["categories"] if "categories" in column else column["values"]
    elif "categories" in column.attrs:
        values = var[column.attrs["categories"]]
    else:
        values = column
    return sorted(set(strings(values))) if values.dtype.kind in "OS" else []


def probe(path: str | Path, modality: str, name: str | None = None) -> Contents:
    """Look into a file without loading its matrix.

    Parameters
    ----------
    path
        Anything that :func:`read_modality` reads.
    modality
        Canonical name or alias.
    name
        What to call the file in messages; default its path.

    Raises
    ------
    InputError
        The file cannot be read, does not hold the modality, or is empty.
    """
    path = Path(path)
    name = name or str(path)
    modality = canonical_modality(modality)
    kind = sniff(path, name)
    try:
        contents = {
            "h5ad": _probe_h5ad,
            "zarr": _probe_zarr,
            "h5mu": _probe_h5mu,
            "10x_h5": _probe_tenx_h5,
            "10x_mtx": _probe_tenx_mtx,
            "table": _probe_table,
            "fcs": _probe_fcs,
            "fragments": _probe_fragments,
        }[kind](path, modality, name)
    except (OSError, KeyError, ValueError, UnicodeDecodeError, EOFError, zlib.error) as exc:
        raise InputError(f"{name}: damaged or unusual {kind} file ({exc}); write it again") from exc
    if contents.n_cells == 0 or contents.n_features == 0:
        raise InputError(empty_matrix(contents.n_cells, contents.n_features, modality, name))
    return contents


def _probe_h5ad(path: Path, modality: str, name: str) -> Contents:
    with open_hdf5(path, name) as store:
        types = _feature_types(store["var"])
        check_feature_types(types, modality, name)
        return Contents("h5ad", _frame_length(store["obs"]), _frame_length(store["var"]), _frame_columns(store["obs"]))


def _probe_zarr(path: Path, modality: str, name: str) -> Contents:
    store = open_zarr(path)
    return Contents("zarr", _frame_length(store["obs"]), _frame_length(store["var"]), _frame_columns(store["obs"]))


def _probe_h5mu(path: Path, modality: str, name: str) -> Contents:
    with open_hdf5(path, name) as store:
        group = store["mod"][pick_modality(list(store["mod"]), modality, name)]
        own = _frame_columns(group["obs"])
        shared = [c for c in _frame_columns(store["obs"]) if c not in own] if "obs" in store else []
        return Contents("h5mu", _frame_length(group["obs"]), _frame_length(group["var"]), (*own, *shared))


def _probe_tenx_h5(path: Path, modality: str, name: str) -> Contents:
    with open_hdf5(path, name) as store:
        group = tenx_group(store, name)
        types = tenx_feature_types(group)
        ids = np.empty(0, dtype=object) if (types != "").any() else strings(group["features"]["id"])
        n = count_type(with_types(types, ids, modality), modality, name)
        return Contents("10x_h5", int(group["barcodes"].shape[0]), n, ())


def _probe_tenx_mtx(path: Path, modality: str, name: str) -> Contents:
    files = mtx_files(path, name)
    features = mtx_features(files.features)
    n = count_type(with_types(features["feature_type"].to_numpy(), features["id"], modality), modality, name)
    with open_text(files.barcodes) as handle:
        n_cells = sum(1 for line in handle if line.strip())
    return Contents("10x_mtx", n_cells, n, ())


def _probe_table(path: Path, modality: str, name: str) -> Contents:
    _, header, second = table_header(path, name)
    return Contents("table", None if second else 0, max(len(header) - 1, 1), tuple(header))


def _probe_fcs(path: Path, modality: str, name: str) -> Contents:
    only_cytometry(modality, name)
    flow = flow_data(path, name, only_text=True)
    return Contents("fcs", int(flow.event_count), int(flow.channel_count), ())


def _probe_fragments(path: Path, modality: str, name: str) -> Contents:
    only_atac(modality, name)
    return Contents("fragments", None, None, ())


def check_file(
    path: str | Path,
    modality: str,
    label_key: str | None = None,
    batch_key: str | None = None,
    name: str | None = None,
    genes: bool = True,
) -> list[str]:
    """Light check of one input file; the problems found, empty when there are none.

    Parameters
    ----------
    path
        Local file or folder.
    modality
        Canonical name or alias.
    label_key, batch_key
        Columns that must be in the cell annotation.
    name
        What to call the file in messages; default its path.
    genes
        Whether there is a file of genes, which peaks and fragments need.
    """
    name = name or str(path)
    try:
        contents = probe(path, modality, name)
    except InputError as exc:
        return exc.problems
    needed = []
    if not genes and canonical_modality(modality) == "atac" and _needs_genes(Path(path), contents.kind):
        needed.append(
            f"{name}: peaks or fragments, from which gene activity is computed; give --genes (a GTF or BED file of the "
            "genes of the genome that the data were mapped to)"
        )
    return needed + [
        missing_key(key, contents.obs_columns, what, name)
        for key, what in ((label_key, "label_key"), (batch_key, "batch_key"))
        if key and key not in contents.obs_columns
    ]


def _needs_genes(path: Path, kind: str) -> bool:
    """Whether a file of chromatin data holds peaks or fragments, as far as a light look tells."""
    if kind in ("fragments", "10x_h5", "10x_mtx"):
        return True
    if kind not in ("h5ad", "h5mu"):
        return False
    with h5py.File(path, "r") as file:
        mod = file["mod"] if kind == "h5mu" else {}
        var = file["var"] if kind == "h5ad" else mod[pick_modality(list(mod), "atac", str(path))]["var"]
        index = var.attrs.get("_index", "_index") if isinstance(var, h5py.Group) else None
        names = var[index.decode() if isinstance(index, bytes) else index] if index is not None else None
        if not isinstance(names, h5py.Dataset) or names.dtype.kind not in "OS":
            return False
        some_names = [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in names[-200:]]
    return sum(bool(INTERVAL.fullmatch(n)) for n in some_names) > 0.5 * len(some_names)

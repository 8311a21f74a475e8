"""Readers for the files people have, and writers that leave either a whole file or none.

Every reader gives the same thing: an AnnData of one modality with cells in rows, raw counts in ``X`` and
``layers["counts"]`` (cytometry: intensities in ``X`` alone) and, in ``uns["scmodal"]``, where the counts were found
and what was noticed on the way. anndata, mudata and flowio are imported where they are used, so that checking a
samplesheet does not wait for them.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import gzip
import importlib
import io
import json
import math
import os
import re
import shutil
import uuid
import warnings
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp

from .contracts import InputError, canonical_modality, check_prepared, nearest

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

FEATURE_TYPES = {"rna": "Gene Expression", "protein": "Antibody Capture", "atac": "Peaks"}
"""What 10x calls the features of each modality."""

SYMBOL_COLUMNS = ("gene_symbols", "gene_name", "feature_name", "gene_symbol", "name")
"""Columns of ``var`` in which gene symbols are looked for when the names are Ensembl ids."""

ENSEMBL_ID = re.compile(r"ENS[A-Z]{0,4}G\d{11}(\.\d+)?", re.IGNORECASE)
INTERVAL = re.compile(r"[\w.]+[:_-]\d+[-_:]\d+")
BARCODE = re.compile(r"([A-Za-z0-9]+[_#-])*[ACGTN]{10,}([-_.]\w+)*")

PEAKS = "peaks"
"""Key of the raw counts of peaks in ``obsm``, and of the peaks' names in ``uns["scmodal"]``."""

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_TENX_FOLDERS = ("filtered_feature_bc_matrix", "filtered_gene_bc_matrices", "filtered_peak_bc_matrix")
_SHOWN = 5  # names quoted in a message before "and N more"
_CHUNK = 1 << 22  # matrix elements looked at in one go: 32 MB of doubles
_STORED = 1 << 17  # values in one compressed piece of a sparse matrix on disk

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


# ---------------------------------------------------------------------------------------------------------------------
# writing


def check_writable(folder: str | Path) -> None:
    """Make sure that files can be made in `folder` or, where it is lacking, that it can be made; nothing is left there.

    Raises
    ------
    InputError
        The folder cannot be created or nothing can be written in it.
    """
    folder = Path(folder)
    there = Path(os.path.abspath(folder))
    while not os.path.lexists(there):
        there = there.parent
    probe = there / f".scmodal-{uuid.uuid4().hex}"
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError as exc:
        raise InputError(
            f"output folder {str(folder)!r} is not writable ({exc.strerror or exc}): "
            "choose another one, or change its permissions"
        ) from exc


DISK_ERRORS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _put_in_place(temporary: Path, path: Path) -> None:
    """Give what was written its final name, without ever removing a folder of somebody else's files."""
    if path.is_dir() != temporary.is_dir() and path.exists():
        there = "a folder" if path.is_dir() else "a file"
        raise InputError(f"output {str(path)!r} is {there} already; choose another name, or move it away")
    if not path.is_dir():
        temporary.replace(path)
        return
    for entry in sorted(temporary.iterdir()):
        target = path / entry.name
        if target.exists() and (entry.is_dir() or target.is_dir()):
            _remove(target)
        entry.replace(target)


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Temporary name to write under, which becomes `path` only when the block ends well.

    Parameters
    ----------
    path
        Final name of a file or of a folder; its parent is created. An existing file is replaced at the end; into an
        existing folder the new entries are moved, replacing those of the same name: what else lies there stays.

    Yields
    ------
    Path
        A name in the same folder with the same suffix at which nothing exists yet: make a file or a folder there.

    Raises
    ------
    InputError
        The folder is not writable, or the disk refused the data (full, read-only).
    """
    path = Path(os.path.abspath(path))
    check_writable(path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    unique = uuid.uuid4().hex[:12]
    # The final name stays at the end, so that writers that go by the suffix (.tsv.gz, .h5ad) do the same thing.
    temporary = path.parent / f".tmp-{unique}-{path.name}"
    try:
        yield temporary
        if not temporary.exists():
            raise FileNotFoundError(errno.ENOENT, "nothing was written", str(temporary))
        _put_in_place(temporary, path)
    except OSError as exc:
        if exc.errno in DISK_ERRORS or "No space left" in str(exc):
            raise InputError(
                f"cannot write {path.name!r} into {str(path.parent)!r} ({exc.strerror or exc}): "
                "free space there or choose another output folder"
            ) from exc
        raise
    finally:
        if temporary.exists():
            _remove(temporary)


def write_h5ad(adata: AnnData, path: str | Path) -> None:
    """Write an AnnData, compressed; see :func:`atomic_path` for what can fail."""
    with atomic_path(path) as temporary:
        adata.write_h5ad(temporary, compression="gzip", compression_opts=1)


def write_h5ad_blocks(annotation: AnnData, matrices: Mapping[str, Iterable[sp.csr_matrix]], path: str | Path) -> None:
    """Write an h5ad whose matrices never are in memory as a whole; see :func:`atomic_path` for what can fail.

    Parameters
    ----------
    annotation
        Everything but the matrices: an AnnData without X and layers.
    matrices
        Blocks of rows, in order, of each matrix by its place in the file (``X``, ``layers/counts``).
    path
        File to write, compressed as :func:`write_h5ad` does.
    """
    with atomic_path(path) as temporary:
        annotation.write_h5ad(temporary, compression="gzip", compression_opts=1)
        with h5py.File(temporary, "r+") as file:
            for place, blocks in matrices.items():
                _write_csr(file, place, blocks, annotation.n_vars)


def _write_csr(file: h5py.File, place: str, blocks: Iterable[sp.csr_matrix], n_columns: int) -> None:
    """Write blocks of rows as one CSR matrix in the layout of anndata."""
    file.pop(place, None)  # a null stands there where a matrix may be
    group = file.create_group(place)
    packed = {"maxshape": (None,), "chunks": (_STORED,), "compression": "gzip", "compression_opts": 1}
    data = group.create_dataset("data", (0,), np.float32, **packed)
    indices = group.create_dataset("indices", (0,), np.int32, **packed)
    sizes = [np.zeros(1, np.int64)]
    stored = 0
    for part in blocks:
        for dataset, values in ((data, part.data), (indices, part.indices)):
            dataset.resize((stored + part.nnz,))
            dataset[stored:] = values
        stored += part.nnz
        sizes.append(np.diff(part.indptr).astype(np.int64))
    indptr = np.cumsum(np.concatenate(sizes))
    group.create_dataset("indptr", data=indptr, compression="gzip", compression_opts=1)
    group.attrs["encoding-type"] = "csr_matrix"
    group.attrs["encoding-version"] = "0.1.0"
    group.attrs["shape"] = (len(indptr) - 1, n_columns)


def mudata_options() -> contextlib.AbstractContextManager[Any]:
    """Within this block a MuData leaves its modalities' annotation where it is, with any version of mudata.

    Before 0.4, mudata copies all columns of the modalities into the common ``obs`` and ``var`` unless told not to;
    since 0.4, that is how it is and the option is gone from there.
    """
    import mudata

    if hasattr(mudata, "set_options"):
        return mudata.set_options(pull_on_update=False)
    return contextlib.nullcontext()


def write_h5mu(mdata: MuData, path: str | Path) -> None:
    """Write a MuData, compressed; see :func:`atomic_path` for what can fail."""
    import mudata

    with atomic_path(path) as temporary, mudata_options():
        mudata.write_h5mu(temporary, mdata, compression="gzip", compression_opts=1)


def write_tsv(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a table with tabs, without its index, gzipped where the name ends in ``.gz``.

    The same table gives the same bytes (no time stamp and no file name in the gzip header).
    """
    with atomic_path(path) as temporary:
        if temporary.suffix == ".gz":
            with (
                temporary.open("wb") as raw,
                gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as packed,
                io.TextIOWrapper(packed, encoding="utf-8", newline="") as text,
            ):
                frame.to_csv(text, sep="\t", index=False, lineterminator="\n")
        else:
            frame.to_csv(temporary, sep="\t", index=False, lineterminator="\n", encoding="utf-8")


def write_parquet(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a table as Parquet, without its index."""
    with atomic_path(path) as temporary:
        frame.to_parquet(temporary, index=False)


def plain(value: Any) -> Any:
    """`value` made of dict, list, str, int, float, bool and None only; NaN and infinities become None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset | pd.Index | pd.Series):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def write_json(value: Any, path: str | Path) -> None:
    """Write JSON with an indent of 2, keys in their order, NaN as null, numpy values as plain ones."""
    text = json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    InputError
        Missing, unreadable or not JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise InputError(_cannot_open(path, exc)) from exc
    except ValueError as exc:
        raise InputError(f"{path}: not a JSON file ({exc})") from exc


# ---------------------------------------------------------------------------------------------------------------------
# what kind of file is this


def some(names: Sequence[Any], shown: int = _SHOWN) -> str:
    """The first few names, quoted, and how many more there are."""
    text = ", ".join(repr(str(name)) for name in names[:shown])
    return text + (f" and {len(names) - shown:,} more" if len(names) > shown else "")


def _cannot_open(path: str | Path, exc: OSError) -> str:
    if isinstance(exc, FileNotFoundError):
        return f"{path}: not found (check the spelling, and that relative paths start where you think)"
    if isinstance(exc, PermissionError):
        return f"{path}: may not be read (permission denied: chmod +r, or ask its owner)"
    if isinstance(exc, IsADirectoryError):
        return f"{path}: is a folder, not a file"
    return f"{path}: cannot be read ({exc.strerror or exc})"


def _beginning(path: Path, n: int = 512) -> bytes:
    try:
        with path.open("rb") as handle:
            return handle.read(n)
    except OSError as exc:
        raise InputError(_cannot_open(path, exc)) from exc


def _mtx_folder(path: Path, name: str) -> Path:
    """The folder that holds matrix.mtx: `path`, or the usual folder inside it."""

    def matrices(folder: Path) -> list[Path]:
        return sorted(p for p in folder.iterdir() if p.name.endswith(("matrix.mtx", "matrix.mtx.gz")))

    candidates = [path, *(path / sub for sub in _TENX_FOLDERS)]
    for folder in candidates:
        if folder.is_dir() and matrices(folder):
            return folder
    inner = [p for p in sorted(path.iterdir()) if p.is_dir() and matrices(p)]
    if len(inner) == 1:
        return inner[0]
    if inner:
        raise InputError(
            f"{name}: folder with several matrices inside ({some([p.name for p in inner])}); give the one you mean"
        )
    raise InputError(
        f"{name}: folder without a matrix.mtx or matrix.mtx.gz (a 10x folder holds matrix.mtx.gz, features.tsv.gz and "
        "barcodes.tsv.gz)"
    )


def sniff(path: str | Path, name: str | None = None) -> str:
    """Kind of a file, told by what is in it rather than by its name.

    Parameters
    ----------
    path
        File or folder.
    name
        What to call it in messages; default its path.

    Returns
    -------
    str
        ``h5ad``, ``zarr``, ``h5mu``, ``10x_h5``, ``10x_mtx``, ``fcs``, ``fragments`` or ``table``.

    Raises
    ------
    InputError
        Missing, unreadable, empty, cut short or of another kind.
    """
    path = Path(path)
    name = name or str(path)
    if path.is_dir():
        if (path / ".zgroup").exists() or (path / "zarr.json").exists():
            with reading(name, "zarr"):
                _check_zarr(_open_zarr(path), name)
            return "zarr"
        _mtx_folder(path, name)
        return "10x_mtx"
    try:
        start = _beginning(path)
    except InputError as exc:
        raise InputError([problem.replace(str(path), name, 1) for problem in exc.problems]) from exc
    if not start:
        raise InputError(f"{name}: the file is empty (0 bytes); copy or download it again")
    suffixes = [s.lower() for s in path.suffixes]
    # A MuData file has its own signature in front of HDF5's.
    if start.startswith((HDF5_MAGIC, b"MuData (")) or h5py.is_hdf5(path):
        with _open_hdf5(path, name) as store:
            kind = str(store.attrs.get("encoding-type", ""))
            if "mod" in store and isinstance(store["mod"], h5py.Group):
                return "h5mu"
            if kind == "anndata" or {"obs", "var"} <= set(store):
                return "h5ad"
            if _tenx_groups(store):
                return "10x_h5"
            raise InputError(
                f"{name}: HDF5, but neither AnnData, MuData nor a 10x matrix (top level: "
                f"{some(list(store)) or 'empty'}); save it as .h5ad with adata.write_h5ad"
            )
    if start.startswith(b"FCS"):
        return "fcs"
    expected = next((s for s in (".h5ad", ".h5mu", ".h5", ".hdf5", ".fcs") if s in suffixes[-1:]), None)
    if expected:
        found = "a gzip archive: unpack it first" if start.startswith(b"\x1f\x8b") else f"it begins with {start[:16]!r}"
        inside = {".h5ad": "an h5ad (AnnData)", ".h5mu": "an h5mu (MuData)", ".fcs": "an FCS file"}.get(
            expected, "an HDF5 file"
        )
        raise InputError(f"{name}: named {expected}, but not {inside} inside ({found}); convert it, do not rename it")
    if start.startswith(b"\x1f\x8b"):
        try:
            with gzip.open(path) as packed:
                start = packed.read(512)
        except (OSError, EOFError, zlib.error) as exc:
            raise InputError(f"{name}: gzip file that cannot be unpacked ({exc}); copy or download it again") from exc
        if start.startswith(HDF5_MAGIC):
            raise InputError(f"{name}: a gzipped HDF5 file; unpack it first (gunzip)")
    if start.startswith(b"%%MatrixMarket"):
        raise InputError(
            f"{name}: a single Matrix Market file; give the folder that holds it with its features and barcodes"
        )
    if start.startswith(b"PK"):
        raise InputError(f"{name}: an Excel or zip file; save the table as .csv or .tsv")
    if b"\x00" in start or suffixes[-1:] in ([".rds"], [".rdata"], [".loom"]):
        raise InputError(
            f"{name}: a kind of file that is not read (known: .h5ad, .h5mu, 10x .h5, 10x matrix folder, .csv, .tsv, "
            ".fcs); convert it to .h5ad"
        )
    return "fragments" if _are_fragments(path) else "table"


def _are_fragments(path: Path) -> bool:
    """Whether the first line that is no comment has a chromosome, start, end and barcode."""
    try:
        with _open_text(path) as handle:
            line = next((line for line in handle if not line.startswith("#")), "")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError):
        return False  # what is wrong with a table is told when it is read
    fields = line.rstrip("\r\n").split("\t")
    return (
        4 <= len(fields) <= 6
        and fields[1].isdigit()
        and fields[2].isdigit()
        and not re.fullmatch(r"[-+.\d]*", fields[0] if len(fields[0]) > 2 else "x")
        and not re.fullmatch(r"[-+.\de]*", fields[3], re.IGNORECASE)
    )


def _open_zarr(path: Path) -> Any:
    """The top level of a Zarr store."""
    import zarr

    return zarr.open_group(path, mode="r")


def _check_zarr(store: Any, name: str) -> None:
    """Refuse a Zarr store of something else than an AnnData, or with missing pieces, which would be read as zeros."""
    if not {"obs", "var"} <= set(store):
        raise InputError(
            f"{name}: a Zarr store, but not of an AnnData (top level: {some(list(store))}); "
            "save the modality with adata.write_zarr or adata.write_h5ad"
        )
    for matrix in _stored_matrices(store).values():
        # positions, unlike values, never are zero throughout a piece
        if hasattr(matrix, "keys") and matrix["indices"].nchunks_initialized < matrix["indices"].nchunks:
            raise InputError(f"{name}: pieces of the Zarr store are missing ({matrix.name}); copy or write it again")


@contextlib.contextmanager
def _open_hdf5(path: Path, name: str) -> Iterator[h5py.File]:
    try:
        store = h5py.File(path, "r")
    except OSError as exc:
        if isinstance(exc, FileNotFoundError | PermissionError):
            raise InputError(_cannot_open(name, exc)) from exc
        if "truncated" in str(exc):
            raise InputError(f"{name}: HDF5 file that is cut short (truncated); copy or download it again") from exc
        raise InputError(f"{name}: HDF5 file that cannot be opened ({exc}); copy or download it again") from exc
    with store:
        yield store


def _tenx_groups(store: h5py.File) -> list[str]:
    """Groups of a 10x HDF5 file that hold a matrix: ``matrix`` (v3) or one per genome (v2)."""
    needed = {"data", "indices", "indptr", "shape", "barcodes"}
    return [key for key, item in store.items() if isinstance(item, h5py.Group) and needed <= set(item)]


def _strings(dataset: Any) -> np.ndarray:
    """A dataset of byte or character strings as an object array of str."""
    values = dataset[()]
    return np.array([v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values], dtype=object)


# ---------------------------------------------------------------------------------------------------------------------
# looking into a file without loading it


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
    return sorted(set(_strings(values))) if values.dtype.kind in "OS" else []


def _pick_modality(available: Sequence[str], modality: str, name: str) -> str:
    """The key of a MuData's modalities that means `modality`."""
    for key in available:
        if key.lower() == modality:
            return key
    matches = []
    for key in available:
        with contextlib.suppress(InputError):
            if canonical_modality(key) == modality:
                matches.append(key)
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise InputError(
            f"{name}: several modalities mean {modality}: {some(matches)}; rename the right one {modality!r}"
        )
    raise InputError(
        f"{name}: no modality {modality!r} inside (there: {some(list(available)) or 'none'}); "
        "give the row the modality that is there, or another file"
    )


def _wrong_types(types: Sequence[str], modality: str, name: str) -> str:
    wanted = FEATURE_TYPES.get(modality)
    mend = "give the row the modality that is there, or another file"
    if wanted is None:
        return f"{name}: {modality} is not read from a 10x matrix (it holds {some(types)} features); {mend}"
    return f"{name}: no {wanted!r} features for modality {modality!r} (there: {some(types) or 'none'}); {mend}"


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
        raise InputError(_empty(contents.n_cells, contents.n_features, modality, name))
    return contents


def _empty(n_cells: int | None, n_features: int | None, modality: str, name: str) -> str:
    what = "no cells" if n_cells == 0 else "no features"
    shape = f"{'?' if n_cells is None else n_cells} x {'?' if n_features is None else n_features}"
    return (
        f"{name}: empty matrix for modality {modality!r}, {what} ({shape}); check how the file was filtered and saved"
    )


def _probe_h5ad(path: Path, modality: str, name: str) -> Contents:
    with _open_hdf5(path, name) as store:
        types = _feature_types(store["var"])
        _check_feature_types(types, modality, name)
        return Contents("h5ad", _frame_length(store["obs"]), _frame_length(store["var"]), _frame_columns(store["obs"]))


def _probe_zarr(path: Path, modality: str, name: str) -> Contents:
    store = _open_zarr(path)
    return Contents("zarr", _frame_length(store["obs"]), _frame_length(store["var"]), _frame_columns(store["obs"]))


def _check_feature_types(types: Sequence[str], modality: str, name: str) -> None:
    """Refuse a matrix whose features are all of known kinds other than the wanted one."""
    wanted = FEATURE_TYPES.get(modality)
    if wanted and types and wanted not in types and all(t in FEATURE_TYPES.values() for t in types):
        raise InputError(_wrong_types(types, modality, name))


def _probe_h5mu(path: Path, modality: str, name: str) -> Contents:
    with _open_hdf5(path, name) as store:
        group = store["mod"][_pick_modality(list(store["mod"]), modality, name)]
        own = _frame_columns(group["obs"])
        shared = [c for c in _frame_columns(store["obs"]) if c not in own] if "obs" in store else []
        return Contents("h5mu", _frame_length(group["obs"]), _frame_length(group["var"]), (*own, *shared))


def _tenx_feature_types(group: h5py.Group) -> np.ndarray:
    """Feature type of every row of a 10x matrix; files before Cell Ranger 3 hold genes only."""
    if "features" in group and "feature_type" in group["features"]:
        return _strings(group["features"]["feature_type"])
    n = group["genes"].shape[0] if "genes" in group else int(group["shape"][0])
    return np.full(n, FEATURE_TYPES["rna"], dtype=object)


def _tenx_group(store: h5py.File, name: str) -> h5py.Group:
    groups = _tenx_groups(store)
    if not groups:
        raise InputError(f"{name}: no 10x matrix inside")
    if len(groups) > 1:
        raise InputError(
            f"{name}: several genomes in one 10x file ({some(groups)}); cut it down to one, with one matrix per file"
        )
    return store[groups[0]]


def _count_type(types: np.ndarray, modality: str, name: str) -> int:
    n = int((types == FEATURE_TYPES.get(modality)).sum())
    if n == 0 and len(types):
        raise InputError(_wrong_types(sorted(set(types)), modality, name))
    return n


def _probe_tenx_h5(path: Path, modality: str, name: str) -> Contents:
    with _open_hdf5(path, name) as store:
        group = _tenx_group(store, name)
        n = _count_type(_tenx_feature_types(group), modality, name)
        return Contents("10x_h5", int(group["barcodes"].shape[0]), n, ())


def _open_text(path: Path) -> Any:
    """A text file, gzipped or not, with a byte order mark taken off."""
    if _beginning(path, 2) == b"\x1f\x8b":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


@dataclass(frozen=True)
class _MtxFiles:
    matrix: Path
    features: Path
    barcodes: Path


def _mtx_files(path: Path, name: str) -> _MtxFiles:
    folder = _mtx_folder(path, name)
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


def _mtx_features(path: Path) -> pd.DataFrame:
    """Rows of features.tsv, genes.tsv or peaks.bed: id, name, feature_type."""
    with _open_text(path) as handle:
        rows = [line.rstrip("\r\n").split("\t") for line in handle if line.strip() and not line.startswith("#")]
    if path.name.removesuffix(".gz").endswith(".bed"):
        rows = [[f"{r[0]}:{r[1]}-{r[2]}" if len(r) > 2 else r[0], "", FEATURE_TYPES["atac"]] for r in rows]
    return pd.DataFrame(
        {
            "id": [r[0] for r in rows],
            "name": [r[1] if len(r) > 1 and r[1] else r[0] for r in rows],
            "feature_type": [r[2] if len(r) > 2 and r[2] else FEATURE_TYPES["rna"] for r in rows],
        },
        dtype=object,
    )


def _probe_tenx_mtx(path: Path, modality: str, name: str) -> Contents:
    files = _mtx_files(path, name)
    n = _count_type(_mtx_features(files.features)["feature_type"].to_numpy(), modality, name)
    with _open_text(files.barcodes) as handle:
        n_cells = sum(1 for line in handle if line.strip())
    return Contents("10x_mtx", n_cells, n, ())


def _table_header(path: Path, name: str) -> tuple[str, list[str], list[str]]:
    """Delimiter, fields of the first line and of the second line of a table."""
    suffixes = [s.lower() for s in path.suffixes if s.lower() != ".gz"]
    preferred = "," if suffixes[-1:] == [".csv"] else "\t"
    try:
        with _open_text(path) as handle:
            head = [handle.readline(), handle.readline()]
    except UnicodeDecodeError as exc:
        raise InputError(f"{name}: not a text table in UTF-8 ({exc.reason}); save it as .csv or .tsv in UTF-8") from exc
    first = head[0]
    delimiter = preferred if preferred in first else max((",", "\t", ";"), key=first.count)
    if first.count(delimiter) == 0:
        raise InputError(
            f"{name}: neither commas nor tabs in the first line; a table has cells in rows, features in columns and "
            "names in its first line and first column"
        )
    fields = list(csv.reader(head, delimiter=delimiter))
    header = [f.strip() for f in fields[0]]
    return delimiter, header, ([f.strip() for f in fields[1]] if len(fields) > 1 else [])


def _probe_table(path: Path, modality: str, name: str) -> Contents:
    _, header, second = _table_header(path, name)
    return Contents("table", None if second else 0, max(len(header) - 1, 1), tuple(header))


def _flow_data(path: Path, name: str, only_text: bool = False) -> Any:
    import flowio

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return flowio.FlowData(str(path), only_text=only_text)
    except flowio.exceptions.MultipleDataSetsError as exc:
        raise InputError(f"{name}: FCS file with several data sets; export one file per data set") from exc
    except (
        flowio.exceptions.FlowIOException,
        OSError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        NotImplementedError,
        UnicodeDecodeError,
    ) as exc:
        raise InputError(f"{name}: FCS file that cannot be read ({exc}); export it again") from exc


def _probe_fcs(path: Path, modality: str, name: str) -> Contents:
    _only_cytometry(modality, name)
    flow = _flow_data(path, name, only_text=True)
    return Contents("fcs", int(flow.event_count), int(flow.channel_count), ())


def _probe_fragments(path: Path, modality: str, name: str) -> Contents:
    _only_atac(modality, name)
    return Contents("fragments", None, None, ())


def _only_atac(modality: str, name: str) -> None:
    if modality != "atac":
        raise InputError(f"{name}: a fragments file, which is read as modality 'atac', not {modality!r}")


def _only_cytometry(modality: str, name: str) -> None:
    if modality != "cytometry":
        raise InputError(f"{name}: an FCS file is cytometry, not {modality}; set its modality to 'cytometry'")


def missing_key(key: str, columns: Sequence[str], what: str, name: str) -> str:
    """Sentence that says that the column `key` is not there, which ones are, and the nearest one."""
    if not columns:
        return f"{name}: {what} {key!r} is not there (the file has no cell annotation at all); leave {what} empty"
    close = nearest(key, list(columns))
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{name}: {what} {key!r} is not a column of obs (there: {some(list(columns), 20)}){hint}"


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
        var = file["var"] if kind == "h5ad" else mod[_pick_modality(list(mod), "atac", str(path))]["var"]
        index = var.attrs.get("_index", "_index") if isinstance(var, h5py.Group) else None
        names = var[index.decode() if isinstance(index, bytes) else index] if index is not None else None
        if not isinstance(names, h5py.Dataset) or names.dtype.kind not in "OS":
            return False
        some_names = [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in names[-200:]]
    return sum(bool(INTERVAL.fullmatch(n)) for n in some_names) > 0.5 * len(some_names)


# ---------------------------------------------------------------------------------------------------------------------
# counts


def _elements(matrix: Any) -> Iterator[tuple[int, np.ndarray]]:
    """Stored values of a matrix in pieces, each with its offset: nothing is ever copied whole."""
    if is_on_disk(matrix) and not hasattr(matrix, "group"):
        rows = max(1, _CHUNK // matrix.shape[1])
        for row in range(0, matrix.shape[0], rows):
            yield row * matrix.shape[1], matrix[row : row + rows].reshape(-1)
        return
    if is_on_disk(matrix):
        flat = matrix.group["data"]
    else:
        flat = matrix.data if sp.issparse(matrix) else np.ascontiguousarray(matrix).reshape(-1)
    for start in range(0, flat.size, _CHUNK):
        yield start, flat[start : start + _CHUNK]


def _position(matrix: Any, offset: int) -> tuple[int, int]:
    """Row and column of the stored value number `offset`."""
    if is_on_disk(matrix) and hasattr(matrix, "group"):
        row = int(np.searchsorted(matrix.group["indptr"][()], offset, side="right") - 1)
        return row, int(matrix.group["indices"][offset])
    if not sp.issparse(matrix):
        row, column = divmod(offset, matrix.shape[1])
        return int(row), int(column)
    if matrix.format == "coo":
        return int(matrix.row[offset]), int(matrix.col[offset])
    major = int(np.searchsorted(matrix.indptr, offset, side="right") - 1)
    minor = int(matrix.indices[offset])
    return (major, minor) if matrix.format == "csr" else (minor, major)


@dataclass(frozen=True)
class _Flaw:
    """The worst thing about the values of a matrix: nan, infinite, negative or fraction; where it is first."""

    kind: str
    n: int
    row: int
    column: int
    has_fractions: bool

    def text(self, cells: Any, features: Any) -> str:
        what = {
            "nan": "missing (NaN)",
            "infinite": "infinite",
            "negative": "negative",
            "fraction": "fractional",
        }[self.kind]
        plural = "value" if self.n == 1 else "values"
        place = f"cell {str(cells[self.row])!r}, feature {str(features[self.column])!r}"
        return f"{self.n:,} {what} {plural}, first in {place}"


def _flaw(matrix: Any) -> _Flaw | None:
    """Why the values of a matrix cannot be counts; None when they can."""
    tests: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "nan": np.isnan,
        "infinite": np.isinf,
        "negative": lambda v: v < 0,
        "fraction": lambda v: v != np.rint(v),
    }
    dtype = matrix.dtype
    if dtype.kind in "bu":
        return None
    found: dict[str, list[int]] = {}
    for start, values in _elements(matrix):
        for kind, test in tests.items():
            if dtype.kind == "i" and kind != "negative":
                continue
            with np.errstate(invalid="ignore"):
                hits = test(values)
            if kind == "fraction":
                hits &= np.isfinite(values)
            n = int(np.count_nonzero(hits))
            if n:
                entry = found.setdefault(kind, [0, start + int(np.argmax(hits))])
                entry[0] += n
    for kind in tests:
        if kind in found:
            n, offset = found[kind]
            return _Flaw(kind, n, *_position(matrix, offset), "fraction" in found)
    return None


def find_counts(adata: AnnData, name: str = "the AnnData") -> tuple[Any, str]:
    """Raw counts of an AnnData, wherever they are.

    Looked for in ``layers["counts"]``, ``X`` and ``raw.X``, in this order; the first one of non-negative whole
    numbers is taken.

    Parameters
    ----------
    adata
        Cells x features.
    name
        What to call it in messages.

    Returns
    -------
    matrix
        As it is stored, cells x features (of ``raw.var`` if it is from ``raw``).
    where
        ``"layers/counts"``, ``"X"`` or ``"raw"``.

    Raises
    ------
    InputError
        Nothing there is a matrix of counts: missing, infinite or negative values, or X is already scaled or
        normalised. Each place looked at is in the message.
    """
    places: list[tuple[str, Any, Any]] = []
    if "counts" in adata.layers:
        places.append(("layers/counts", adata.layers["counts"], adata.var_names))
    if adata.X is not None:
        places.append(("X", adata.X, adata.var_names))
    if adata.raw is not None:
        places.append(("raw", adata.raw.X, adata.raw.var_names))
    seen: dict[str, tuple[_Flaw, str]] = {}
    for where, matrix, features in places:
        if matrix.dtype.kind not in "biuf":
            continue
        flaw = _flaw(matrix)
        if flaw is None:
            return matrix, where
        seen[where] = (flaw, flaw.text(adata.obs_names, features))
    looked = "; ".join(
        f"{where}: {seen[where][1] if where in seen else 'not there'}" for where in ("layers/counts", "X", "raw")
    )
    mend = "Put raw counts into layers['counts'], X or raw.X, or give the file from before normalisation"
    worst = seen["X"][0] if "X" in seen else next((flaw for flaw, _ in seen.values()), None)
    if worst is not None and worst.kind in ("nan", "infinite"):
        what = "NaN (missing)" if worst.kind == "nan" else "infinite"
        raise InputError(f"{name}: {what} values in the matrix and no counts elsewhere ({looked}). {mend}")
    if worst is not None and worst.kind == "negative" and not worst.has_fractions:
        raise InputError(f"{name}: negative values in the matrix of counts ({looked}). {mend}")
    state = "scaled" if worst is not None and worst.kind == "negative" else "normalised"
    raise InputError(f"{name}: X already {state}, no counts anywhere ({looked}). {mend}")


def is_on_disk(matrix: Any) -> bool:
    """Whether a matrix is a part of an open file, rows of which are read when they are sliced."""
    return isinstance(matrix, h5py.Dataset) or hasattr(matrix, "group") or hasattr(matrix, "store_path")


def matrix_file(matrix: Any) -> str | None:
    """Path of the open file that a matrix is a part of; None for one in memory."""
    if not is_on_disk(matrix):
        return None
    item = getattr(matrix, "group", matrix)
    if isinstance(item, h5py.Group | h5py.Dataset):
        return str(item.file.filename)
    return str(item.store_path).removeprefix("file://")


def one_index_type(matrix: Any) -> Any:
    """A sparse matrix whose positions are all of one integer type; values are shared, all else is returned as it is.

    Files often hold 64-bit row ends beside 32-bit columns. Whatever scipy does with such a matrix, if only slicing a
    few rows, first makes 64-bit columns of all of it.
    """
    if not sp.issparse(matrix) or matrix.format != "csr" or matrix.indptr.dtype == matrix.indices.dtype:
        return matrix
    fits = max(matrix.nnz, *matrix.shape) <= np.iinfo(np.int32).max
    kind = np.int32 if fits else np.int64
    positions = (matrix.indices.astype(kind, copy=False), matrix.indptr.astype(kind, copy=False))
    return type(matrix)((matrix.data, *positions), shape=matrix.shape, copy=False)


def to_csr(matrix: Any) -> sp.csr_matrix:
    """`matrix` as float32 CSR without stored zeros; the input is not changed, and not copied where it fits."""
    if sp.issparse(matrix):
        result = sp.csr_matrix(one_index_type(matrix))
        if result.dtype != np.float32:
            result = result.astype(np.float32)
        if not result.has_canonical_format:
            result = result.copy()
            result.sum_duplicates()
        if np.any(result.data == 0):
            result = result.copy()
            result.eliminate_zeros()
        return result
    rows = max(1, _CHUNK // max(1, matrix.shape[1]))
    parts = [
        sp.csr_matrix(np.asarray(matrix[start : start + rows], dtype=np.float32))
        for start in range(0, matrix.shape[0], rows)
    ]
    return sp.vstack(parts, format="csr") if parts else sp.csr_matrix(matrix.shape, dtype=np.float32)


# ---------------------------------------------------------------------------------------------------------------------
# names


def _duplicates(names: pd.Index) -> list[str]:
    return [str(n) for n in names[names.duplicated()].unique()]


def _use_symbols(var: pd.DataFrame, messages: list[str]) -> tuple[pd.DataFrame, bool]:
    """Gene symbols as names where the names are Ensembl ids; also whether names changed."""
    names = var.index.astype(str)
    ensembl = np.array([bool(ENSEMBL_ID.fullmatch(n)) for n in names])
    if len(names) == 0 or ensembl.mean() < 0.5:
        return var, False
    column = next((c for c in SYMBOL_COLUMNS if c in var.columns), None)
    if column is None:
        messages.append(
            "The features are Ensembl ids and no gene symbols were found in var (looked for "
            f"{', '.join(SYMBOL_COLUMNS)}); the built-in links go by symbol."
        )
        return var, False
    symbols = var[column].astype(object)
    usable = symbols.notna().to_numpy() & (symbols.astype(str).str.strip() != "").to_numpy()
    if not usable.any():
        return var, False
    var = var.copy()
    var["gene_id"] = np.asarray(names, dtype=object)
    var.index = pd.Index(np.where(usable, symbols.astype(str).str.strip(), names).astype(object))
    left = int((~usable).sum())
    messages.append(
        f"The features were Ensembl ids: gene symbols of var[{column!r}] are used as names"
        + (f", {left:,} without a symbol kept their id." if left else ".")
    )
    return var, True


def _unique_names(index: pd.Index, messages: list[str], what: str) -> pd.Index:
    from anndata.utils import make_index_unique

    repeated = _duplicates(index)
    if not repeated:
        return index
    messages.append(f"{len(repeated):,} {what} occur more than once and were numbered: {some(repeated)}.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make_index_unique(index)


def _text_index(index: pd.Index) -> pd.Index:
    """An index of plain str objects: numbers as text, no extension type."""
    return pd.Index(np.array([str(n) for n in index], dtype=object), dtype=object)


# ---------------------------------------------------------------------------------------------------------------------
# one AnnData of one modality, whatever it came from


@dataclass
class Checked:
    """One modality of a file, looked through: what :func:`from_anndata` makes an AnnData of."""

    obs: pd.DataFrame
    var: pd.DataFrame
    matrix: Any
    """Cells x features as they are stored, in memory or on disk."""
    columns: np.ndarray | None
    """Positions of the matrix's columns that `var` names; None for all of them."""
    obsm: dict[str, np.ndarray]
    own: dict[str, Any]
    """What goes into ``uns["scmodal"]``."""


def _wanted_types(adata: AnnData, modality: str, name: str, messages: list[str]) -> np.ndarray | None:
    """Mask of the features of the wanted 10x type; None where all are, or var does not say of which type they are."""
    wanted = FEATURE_TYPES.get(modality)
    if wanted is None or "feature_types" not in adata.var:
        return None
    types = adata.var["feature_types"].astype(str)
    present = sorted(types.unique())
    _check_feature_types(present, modality, name)
    if wanted not in present or len(present) == 1:
        return None
    keep = (types == wanted).to_numpy()
    messages.append(f"{int(keep.sum()):,} of {len(keep):,} features are {wanted!r} and were taken.")
    return np.asarray(keep)


def from_anndata(
    adata: AnnData,
    modality: str,
    name: str = "the AnnData",
    *,
    messages: Sequence[str] = (),
    number_duplicates: bool = False,
) -> AnnData:
    """One modality in the form that every reader gives, from an AnnData as people have it.

    Parameters
    ----------
    adata
        Cells x features; not changed.
    modality
        Canonical name or alias.
    name
        What to call it in messages.
    messages
        What was noticed before.
    number_duplicates
        Number repeated feature names instead of refusing them.

    Returns
    -------
    AnnData
        ``X`` and ``layers["counts"]``: the same float32 CSR matrix of raw counts (cytometry: dense float32 ``X``
        only); ``obs`` and ``var`` of the input; ``obsm["spatial"]`` if there; ``uns["scmodal"]`` with
        ``modality``, ``counts_from`` and ``messages``.

    Raises
    ------
    InputError
        Empty, no counts, values that cannot be, duplicated names. All of them at once where that is possible.
    """
    from anndata import AnnData

    if adata.isbacked:
        adata = adata.to_memory()
    checked = _check(adata, modality, name, messages, number_duplicates)
    matrix = checked.matrix if checked.columns is None else checked.matrix[:, checked.columns]
    if checked.own["modality"] == "cytometry":
        result = AnnData(X=matrix, obs=checked.obs, var=checked.var)
    else:
        counts = to_csr(matrix)
        result = AnnData(X=counts, obs=checked.obs, var=checked.var, layers={"counts": counts})
    for key, value in checked.obsm.items():
        result.obsm[key] = value
    result.uns["scmodal"] = checked.own
    return result


def _check(
    adata: AnnData, modality: str, name: str, messages: Sequence[str], number_duplicates: bool = False
) -> Checked:
    """Find the counts, check names and values: the part of :func:`from_anndata` that reads matrices but makes none."""
    modality = canonical_modality(modality)
    notes = list(messages)
    keep = _wanted_types(adata, modality, name, notes)
    n_cells, n_features = adata.shape
    if n_features == 0 and adata.raw is not None:
        n_features = adata.raw.shape[1]
    if n_cells == 0 or n_features == 0:
        raise InputError(_empty(n_cells, n_features, modality, name))

    problems: list[str] = []
    var = adata.var.copy()
    columns = None
    matrix: Any = None
    where = "X"
    if modality == "cytometry":
        if adata.X is None:
            raise InputError(f"{name}: no X inside; put the intensities into X")
        matrix = adata.X.toarray() if sp.issparse(adata.X) else np.asarray(adata.X)
        matrix = matrix.astype(np.float32)
        flaw = _flaw(matrix)
        if flaw is not None and flaw.kind in ("nan", "infinite"):
            problems.append(
                f"{name}: {flaw.text(adata.obs_names, adata.var_names)}; "
                "remove these cells or channels, or fill them in"
            )
    else:
        try:
            matrix, where = find_counts(adata, name)
        except InputError as exc:
            problems += exc.problems
        if where == "raw":
            raw_var = adata.raw.var.copy()
            extra = [c for c in var.columns if c not in raw_var.columns]
            var = raw_var.join(var[extra]) if var.index.is_unique and raw_var.index.is_unique else raw_var
        elif keep is not None:
            columns = np.flatnonzero(keep)
            var = var.iloc[columns]
        if where != "X":
            notes.append(
                f"Raw counts were taken from {'raw.X' if where == 'raw' else 'layers[' + repr('counts') + ']'}."
            )

    var.index = _text_index(var.index)
    obs_names = _text_index(adata.obs_names)
    if repeated := _duplicates(obs_names):
        problems.append(
            f"{name}: {len(repeated):,} duplicated cell names ({some(repeated)}); "
            "make them unique, for instance with adata.obs_names_make_unique()"
        )
    renamed = False
    if modality == "rna":
        intervals = sum(bool(INTERVAL.fullmatch(n)) for n in var.index)
        if intervals > 0.5 * len(var.index):
            problems.append(
                f"{name}: the features are genomic intervals ({some(list(var.index), 2)}), not genes; these are peaks: "
                "give them modality 'atac', or gene expression for modality 'rna'"
            )
    if modality == "rna" or (modality == "atac" and not any(INTERVAL.fullmatch(n) for n in var.index[:10])):
        var, renamed = _use_symbols(var, notes)
    if renamed or number_duplicates:
        var.index = _unique_names(var.index, notes, "feature names")
    elif repeated := _duplicates(var.index):
        problems.append(
            f"{name}: {len(repeated):,} duplicated feature names ({some(repeated)}); "
            "make them unique, for instance with adata.var_names_make_unique(), or sum their columns"
        )
    if problems:
        raise InputError(problems)

    obs = adata.obs.copy()
    obs.index = obs_names
    spatial = adata.obsm.get("spatial")
    own: dict[str, Any] = {"modality": modality, "counts_from": where, "messages": notes}
    if modality == "cytometry" and isinstance(adata.uns.get("instrument"), str):
        own["instrument"] = adata.uns["instrument"]
    return Checked(obs, var, matrix, columns, {"spatial": spatial} if isinstance(spatial, np.ndarray) else {}, own)


# ---------------------------------------------------------------------------------------------------------------------
# readers


def _registry_error() -> type[Exception]:
    """What anndata raises for an encoding that it does not know (it has no public name)."""
    try:
        module = importlib.import_module("anndata._io.specs.registry")
    except ImportError:
        return OSError
    return getattr(module, "IORegistryError", OSError)


@contextlib.contextmanager
def reading(name: str, kind: str) -> Iterator[None]:
    """Turn whatever a library says about a damaged file into an InputError that names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except (
        OSError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        RuntimeError,
        IndexError,
        EOFError,
        zlib.error,
        _registry_error(),
    ) as exc:
        first = (str(exc).strip() or type(exc).__name__).splitlines()[0]
        raise InputError(f"{name}: cannot be read as {kind} ({first}); write or download it again") from exc


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
    with _open_hdf5(path, name) as store, reading(name, "h5mu"):
        key = _pick_modality(list(store["mod"]), modality, name)
        shared = read_elem(store["obs"]) if "obs" in store else pd.DataFrame()
    with reading(name, "h5mu"):
        adata = mudata.read_h5ad(path, mod=key)
    _add_shared(adata, shared, notes)
    return from_anndata(adata, modality, name, messages=notes)


def _add_shared(adata: AnnData, shared: pd.DataFrame, notes: list[str]) -> None:
    """Annotation of cells that lies beside a MuData's modalities: what the modality lacks is added by cell name."""
    shared = shared.drop(columns=[c for c in shared.columns if str(c) in adata.obs or ":" in str(c)])
    if len(shared.columns) and shared.index.is_unique:
        extra = shared.reindex(adata.obs_names)
        filled = [c for c in extra.columns if extra[c].notna().any()]
        if filled:
            adata.obs = adata.obs.join(extra[filled]) if adata.obs_names.is_unique else adata.obs
            notes.append(f"Columns of the MuData's own obs were added: {some(filled)}.")


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
    types = features["feature_type"].to_numpy()
    n = _count_type(types, modality, name)
    notes = (
        [f"{n:,} of {len(types):,} features are {FEATURE_TYPES[modality]!r} and were taken."] if n < len(types) else []
    )
    keep = np.flatnonzero(types == FEATURE_TYPES[modality])
    part = features.iloc[keep]
    # Peaks have no symbol worth a name: their id is the interval.
    index = part["id"] if modality == "atac" else part["name"]
    var = pd.DataFrame(
        {"gene_id": part["id"].to_numpy(), "feature_types": part["feature_type"].to_numpy()},
        index=pd.Index(index.to_numpy(), dtype=object),
    )
    adata = AnnData(
        X=matrix[:, keep] if n < len(types) else matrix,
        obs=pd.DataFrame(index=_text_index(pd.Index(barcodes))),
        var=var,
    )
    return from_anndata(adata, modality, name, messages=notes, number_duplicates=True)


def _read_tenx_h5(path: Path, modality: str, name: str) -> AnnData:
    with _open_hdf5(path, name) as store, reading(name, "10x HDF5"):
        group = _tenx_group(store, name)
        n_features, n_cells = (int(n) for n in group["shape"][()])
        # Stored as features x cells by column, which is cells x features by row: nothing needs turning.
        matrix = sp.csr_matrix(
            (group["data"][()], group["indices"][()], group["indptr"][()]), shape=(n_cells, n_features)
        )
        matrix.check_format()
        if "features" in group:
            ids, names = _strings(group["features"]["id"]), _strings(group["features"]["name"])
        else:
            ids, names = _strings(group["genes"]), _strings(group["gene_names"])
        features = pd.DataFrame({"id": ids, "name": names, "feature_type": _tenx_feature_types(group)}, dtype=object)
        barcodes = _strings(group["barcodes"])
    return _tenx_result(matrix, barcodes, features, modality, name)


def _read_tenx_mtx(path: Path, modality: str, name: str) -> AnnData:
    from scipy.io import mmread

    files = _mtx_files(path, name)
    with reading(name, "10x matrix folder"):
        features = _mtx_features(files.features)
        with _open_text(files.barcodes) as handle:
            barcodes = np.array([line.strip().split("\t")[0] for line in handle if line.strip()], dtype=object)
        matrix = sp.csr_matrix(mmread(files.matrix).T)
    return _tenx_result(matrix, barcodes, features, modality, name)


def _read_table(path: Path, modality: str, name: str, obs_columns: Collection[str]) -> AnnData:
    """A table of cells x features, or of features x cells; text columns and `obs_columns` become annotation."""
    from anndata import AnnData

    delimiter, header, second = _table_header(path, name)
    if not second:
        raise InputError(_empty(0, len(header) - 1, modality, name))
    # R writes no name for the column of row names: the header is then one field short.
    if len(second) == len(header) + 1:
        header = ["", *header]
    repeated = _duplicates(pd.Index(header[1:]))
    if repeated:
        raise InputError(
            f"{name}: {len(repeated):,} duplicated feature names ({some(repeated)}); rename or sum these columns"
        )
    if "" in header[1:]:
        raise InputError(f"{name}: column {header[1:].index('') + 2} has no name in the first line; name it")

    rows = max(1, _CHUNK // len(header))
    annotation: list[str] | None = None
    cells: list[np.ndarray] = []
    parts: list[Any] = []
    notes_frames: list[pd.DataFrame] = []
    first_is_name = True
    dense = modality == "cytometry"
    with reading(name, "a table"):
        chunks = pd.read_csv(
            path,
            sep=delimiter,
            header=None,
            skiprows=1,
            names=[f"c{i}" for i in range(len(header))],
            index_col=False,
            chunksize=rows,
            encoding="utf-8-sig",
            low_memory=False,
            skipinitialspace=True,
        )
        start = 0
        for chunk in chunks:
            chunk.columns = pd.Index(header)
            if annotation is None:
                first = chunk.iloc[:, 0]
                first_is_name = not _is_measurement(first, header[0])
                candidates = header[1:] if first_is_name else header
                annotation = [
                    c
                    for c in candidates
                    if c in obs_columns or (chunk[c].dtype.kind not in "biuf" and _is_text(chunk[c]))
                ]
            values = chunk.drop(columns=annotation)
            if first_is_name:
                values = values.iloc[:, 1:]
            columns = [values[c].to_numpy() if values[c].dtype.kind in "biuf" else _numbers(values[c], name, start)
                       for c in values.columns]  # fmt: skip
            block = np.column_stack(columns).astype(np.float32 if not dense else np.float64) if columns else np.empty(
                (len(chunk), 0))  # fmt: skip
            parts.append(block if dense else sp.csr_matrix(block))
            cells.append(chunk.iloc[:, 0].astype(str).to_numpy() if first_is_name else np.empty(0))
            notes_frames.append(chunk[annotation])
            start += len(chunk)
    annotation = annotation or []
    features = [c for c in (header[1:] if first_is_name else header) if c not in annotation]
    if start == 0 or not features:
        raise InputError(_empty(start, len(features), modality, name))
    obs = pd.concat(notes_frames, ignore_index=True)
    names = np.concatenate(cells) if first_is_name else np.array([f"cell{i + 1}" for i in range(start)], dtype=object)
    obs.index = _text_index(pd.Index(names))
    matrix = np.vstack(parts) if dense else sp.vstack(parts, format="csr")
    adata = AnnData(X=matrix, obs=obs, var=pd.DataFrame(index=pd.Index(features, dtype=object)))
    down, across, annotated = "cells", "features", "cell"
    if first_is_name and _features_in_rows([str(n) for n in names], features):
        adata = AnnData(X=matrix.T if dense else sp.csr_matrix(matrix.T), obs=adata.var, var=adata.obs)
        down, across, annotated = "features", "cells", "feature"
    notes = [
        f"The table was read with {down} in rows and {across} in columns: {adata.n_obs:,} cells, "
        f"{adata.n_vars:,} features."
    ]
    if not first_is_name:
        notes.append("Its first column is a measurement, not cell names: the cells were numbered.")
    if annotation:
        notes.append(f"Columns taken as {annotated} annotation, not as {across}: {some(annotation, 20)}.")
    return from_anndata(adata, modality, name, messages=notes)


_LOOKED_AT = 1000  # names on each side of a table that tell its orientation


def _features_in_rows(rows: Sequence[str], columns: Sequence[str]) -> bool:
    """Whether the rows of a table are named like genes or proteins and the columns are not, so that those are cells."""
    from .links import antigen_genes

    rows, columns = (names[:: max(1, len(names) // _LOOKED_AT)] for names in (rows, columns))

    def barcodes(names: Sequence[str]) -> float:
        return float(np.mean([bool(BARCODE.fullmatch(name)) for name in names]))

    def known(names: Sequence[str]) -> int:
        return sum(
            bool(ENSEMBL_ID.fullmatch(name) or antigen_genes(name, "human") or antigen_genes(name, "mouse"))
            for name in names
        )

    if barcodes(rows) >= 0.1:
        return False
    return barcodes(columns) > 0.9 or (known(columns) == 0 and known(rows) >= 3)


def _is_measurement(first: pd.Series, header: str) -> bool:
    """Whether the first column of a table holds values rather than cell names."""
    if first.dtype.kind not in "iuf" or header == "" or header.lower() in ("cell", "barcode", "index", "cell_id", "id"):
        return False
    return first.dtype.kind == "f" or bool(first.duplicated().any())


def _is_text(column: pd.Series) -> bool:
    """Whether (nearly) nothing in a column is a number: annotation, not a feature with a typing error."""
    return bool(pd.to_numeric(column, errors="coerce").notna().mean() < 0.5)


def _numbers(column: pd.Series, name: str, start: int) -> np.ndarray:
    numbers = pd.to_numeric(column, errors="coerce")
    bad = np.flatnonzero((numbers.isna() & column.notna()).to_numpy())
    if len(bad):
        raise InputError(
            f"{name}: {str(column.iloc[bad[0]])!r} in column {column.name!r}, data row {start + int(bad[0]) + 1}, "
            "is not a number; correct it, or use a point for decimals"
        )
    return numbers.to_numpy(dtype=np.float64)


def _read_fcs(path: Path, modality: str, name: str) -> AnnData:
    from anndata import AnnData

    _only_cytometry(modality, name)
    flow = _flow_data(path, name)
    with reading(name, "FCS"):
        events = flow.as_array(preprocess=True)
    channels = [str(c).strip() for c in flow.pnn_labels]
    markers = [str(m).strip() or c for m, c in zip(flow.pns_labels, channels)]
    repeated = set(_duplicates(pd.Index(markers)))
    # Two channels of one marker name (often the area and the height of one dye) are told apart by the channel.
    labels = [f"{m} {c}" if m in repeated and m != c else m for m, c in zip(markers, channels)]
    notes = [
        f"FCS {flow.version}: {events.shape[0]:,} events, {events.shape[1]} channels, markers named by $PnS else $PnN."
    ]
    if repeated:
        notes.append(f"Markers in several channels were named with their channel: {some(sorted(repeated))}.")
    if any(key in flow.text for key in ("spill", "spillover", "$spillover", "comp")):
        notes.append("The compensation matrix in the file was not applied: the values are used as they are.")
    adata = AnnData(
        X=events,
        obs=pd.DataFrame(index=pd.Index([f"event{i + 1}" for i in range(events.shape[0])], dtype=object)),
        var=pd.DataFrame({"channel": np.array(channels, dtype=object)}, index=pd.Index(labels, dtype=object)),
    )
    adata.uns["instrument"] = str(flow.text.get("cyt", ""))
    return from_anndata(adata, modality, name, messages=notes, number_duplicates=True)


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
        if kind == "h5ad":
            adata = _read_h5ad(path, modality, name)
        elif kind == "zarr":
            adata = _read_zarr(path, modality, name)
        elif kind == "h5mu":
            adata = _read_h5mu(path, modality, name)
        elif kind == "10x_h5":
            adata = _read_tenx_h5(path, modality, name)
        elif kind == "10x_mtx":
            adata = _read_tenx_mtx(path, modality, name)
        elif kind == "fcs":
            adata = _read_fcs(path, modality, name)
        elif kind == "fragments":
            _only_atac(modality, name)
            raise InputError(f"{name}: a fragments file, no matrix; read it with scmodal.chromatin.read_atac")
        else:
            adata = _read_table(path, modality, name, obs_columns)
    adata.uns["scmodal"]["source"] = [path.name]
    return adata


def _stored_matrices(group: Any) -> dict[str, Any]:
    """The matrices of an h5ad by where :func:`find_counts` looks for them."""
    places = {"layers/counts": "layers/counts", "X": "X", "raw": "raw/X"}
    return {where: group[place] for where, place in places.items() if place in group}


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
        return sum(_bytes_in_memory(item) for item in _stored_matrices(file).values())


def _open_matrix(item: Any, name: str) -> Any:
    """A stored matrix whose rows are read when they are sliced."""
    from anndata.io import sparse_dataset

    if not hasattr(item, "keys"):
        return item
    matrix = sparse_dataset(item)
    if matrix.format != "csr":
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

    stored = {where: item for where, item in _stored_matrices(group).items() if _bytes_in_memory(item)}
    found = {where: _open_matrix(item, name) for where, item in stored.items()}
    return AnnData(
        X=found.get("X"),
        obs=read_elem(group["obs"]),
        var=read_elem(group["var"]),
        uns=read_elem(group["uns"]) if "uns" in group else {},
        obsm=_obsm(group, peaks),
        layers={"counts": found["layers/counts"]} if "layers/counts" in found else {},
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
        file = _open_zarr(path) if kind == "zarr" else h5py.File(path, "r")
        group = file if kind != "h5mu" else file["mod"][_pick_modality(list(file["mod"]), modality, name)]
        if COPIES * sum(_bytes_in_memory(item) for item in _stored_matrices(group).values()) <= in_memory_limit():
            return None
        adata = _open_h5ad(group, name, with_raw=True)
        notes: list[str] = []
        if kind == "h5mu" and "obs" in file:
            _add_shared(adata, read_elem(file["obs"]), notes)
        checked = _check(adata, modality, name, notes)
    checked.own["source"] = [path.name]
    return checked


def _plain_uns(adata: AnnData) -> None:
    """Make uns["scmodal"] what it was before it went through HDF5: str, int, float, list."""
    own = adata.uns.get("scmodal")
    if own is not None:
        adata.uns["scmodal"] = plain(dict(own))


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
        stored = [matrix for group in file["mod"].values() for matrix in _stored_matrices(group).values()]
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

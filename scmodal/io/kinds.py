"""What kind of file this is, told by what is in it."""

from __future__ import annotations

import contextlib
import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..contracts import InputError
from .wording import cannot_open, reading, some

ENSEMBL_ID = re.compile(r"ENS[A-Z]{0,4}G\d{11}(\.\d+)?", re.IGNORECASE)

INTERVAL = re.compile(r"[\w.]+[:_-]\d+[-_:]\d+")

BARCODE = re.compile(r"([A-Za-z0-9]+[_#-])*[ACGTN]{10,}([-_.]\w+)*")

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"

_TENX_FOLDERS = ("filtered_feature_bc_matrix", "filtered_gene_bc_matrices", "filtered_peak_bc_matrix")


def beginning(path: Path, n: int = 512) -> bytes:
    """The first `n` bytes of a file."""
    try:
        with path.open("rb") as handle:
            return handle.read(n)
    except OSError as exc:
        raise InputError(cannot_open(path, exc)) from exc


def mtx_folder(path: Path, name: str) -> Path:
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
    files = [p.name for p in sorted(path.iterdir()) if p.suffix in (".h5mu", ".h5ad", ".h5", ".fcs") and p.is_file()]
    inside = name.rstrip("/")
    if "integrated.h5mu" in files:
        raise InputError(
            f"{name}: the folder of an integration's results, where a file is needed; give {inside}/integrated.h5mu"
        )
    if files:
        others = f" (or another of its files: {some(files[1:])})" if len(files) > 1 else ""
        raise InputError(f"{name}: a folder, where a file is needed; give {inside}/{files[0]}{others}")
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
                _check_zarr(open_zarr(path), name)
            return "zarr"
        mtx_folder(path, name)
        return "10x_mtx"
    try:
        start = beginning(path)
    except InputError as exc:
        raise InputError([problem.replace(str(path), name, 1) for problem in exc.problems]) from exc
    if not start:
        raise InputError(f"{name}: the file is empty (0 bytes); copy or download it again")
    suffixes = [s.lower() for s in path.suffixes]
    # A MuData file has its own signature in front of HDF5's.
    if start.startswith((HDF5_MAGIC, b"MuData (")) or h5py.is_hdf5(path):
        with open_hdf5(path, name) as store:
            kind = str(store.attrs.get("encoding-type", ""))
            if "mod" in store and isinstance(store["mod"], h5py.Group):
                return "h5mu"
            if kind == "anndata" or {"obs", "var"} <= set(store):
                return "h5ad"
            if tenx_groups(store):
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
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{name}: text in UTF-16 (Unicode text of a spreadsheet); save it as .csv or .tsv in UTF-8")
    if b"\x00" in start or suffixes[-1:] in ([".rds"], [".rdata"], [".loom"]):
        raise InputError(
            f"{name}: a kind of file that is not read (known: .h5ad, .h5mu, 10x .h5, 10x matrix folder, .csv, .tsv, "
            ".fcs); convert it to .h5ad"
        )
    return "fragments" if _are_fragments(path) else "table"


def _are_fragments(path: Path) -> bool:
    """Whether the first line that is no comment has a chromosome, start, end and barcode."""
    try:
        with open_text(path) as handle:
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


def open_zarr(path: Path) -> Any:
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
    for matrix in stored_matrices(store).values():
        # positions, unlike values, never are zero throughout a piece
        if hasattr(matrix, "keys") and matrix["indices"].nchunks_initialized < matrix["indices"].nchunks:
            raise InputError(f"{name}: pieces of the Zarr store are missing ({matrix.name}); copy or write it again")


@contextlib.contextmanager
def open_hdf5(path: Path, name: str) -> Iterator[h5py.File]:
    """An HDF5 file to read from, open within this block."""
    try:
        store = h5py.File(path, "r")
    except OSError as exc:
        if isinstance(exc, FileNotFoundError | PermissionError):
            raise InputError(cannot_open(name, exc)) from exc
        if "truncated" in str(exc):
            raise InputError(f"{name}: HDF5 file that is cut short (truncated); copy or download it again") from exc
        raise InputError(f"{name}: HDF5 file that cannot be opened ({exc}); copy or download it again") from exc
    with store:
        yield store


def tenx_groups(store: h5py.File) -> list[str]:
    """Groups of a 10x HDF5 file that hold a matrix: ``matrix`` (v3) or one per genome (v2)."""
    needed = {"data", "indices", "indptr", "shape", "barcodes"}
    return [key for key, item in store.items() if isinstance(item, h5py.Group) and needed <= set(item)]


def strings(dataset: Any) -> np.ndarray:
    """A dataset of byte or character strings as an object array of str."""
    values = dataset[()]
    return np.array([v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values], dtype=object)


def open_text(path: Path) -> Any:
    """A text file, gzipped or not, with a byte order mark taken off."""
    if beginning(path, 2) == b"\x1f\x8b":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def stored_matrices(group: Any) -> dict[str, Any]:
    """The matrices of an h5ad by where :func:`find_counts` looks for them."""
    places = {"layers/counts": "layers/counts", "X": "X", "raw": "raw/X"}
    return {where: group[place] for where, place in places.items() if place in group}

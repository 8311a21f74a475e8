"""Writers that leave either a whole file or none."""

from __future__ import annotations

import contextlib
import errno
import gzip
import io
import json
import math
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp

from ..contracts import InputError
from .counts import is_on_disk
from .wording import cannot_open

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


_STORED = 1 << 17  # values in one compressed piece of a sparse matrix on disk


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


def _check_kind(path: Path, folder: bool) -> None:
    """Refuse a file's name at which a folder is, and the other way round, and whatever is neither."""
    devices = Path(os.path.abspath(path)).parts[1:2] in (("dev",), ("proc",))  # links there may lead to a file
    if devices or (path.exists() and not path.is_dir() and not path.is_file()):
        raise InputError(f"output {str(path)!r} is a pipe or a device: outputs are files, give the name of one")
    if path.exists() and path.is_dir() != folder:
        there = "a folder" if path.is_dir() else "a file"
        raise InputError(f"output {str(path)!r} is {there} already; choose another name, or move it away")


def check_outputs(
    *files: str | Path | None,
    folders: Iterable[str | Path | None] = (),
    h5ad: str | Path | None = None,
    inputs: Iterable[str | Path | None] = (),
) -> None:
    """Make sure that all outputs can take their names before anything is computed, so that none is left alone.

    Parameters
    ----------
    files, folders
        Outputs of a command; None for one that was not asked for.
    h5ad
        One more file, which is written as h5ad whatever its name.
    inputs
        What the command reads, none of which is to be lost; None for what was not given.

    Raises
    ------
    InputError
        A place where nothing can be written, a folder where a file is to be or the other way round, a pipe or a
        device, a name that promises another kind of file, that of an input, or one name for two outputs; all of them
        at once.
    """
    asked = [(Path(path), kind) for group, kind in (((*files, h5ad), False), (folders, True)) for path in group if path]
    problems: list[str] = []
    if h5ad and Path(h5ad).suffix.lower() != ".h5ad":
        problems.append(f"output {str(h5ad)!r} is written as h5ad: let its name end in .h5ad")
    for path, folder in asked:
        try:
            _check_kind(path, folder)
            check_writable(path if folder else path.parent)
        except InputError as exc:
            problems += exc.problems
    read = {os.path.realpath(path) for path in inputs if path}
    problems += [
        f"output {str(path)!r} is an input as well, which would be lost; choose another name"
        for path, _ in asked
        if os.path.realpath(path) in read
    ]
    names = [os.path.abspath(path) for path, _ in asked]
    problems += [
        f"output {name!r} is given twice; choose two names" for name in sorted(set(names)) if names.count(name) > 1
    ]
    if problems:
        raise InputError(list(dict.fromkeys(problems)))


def _put_in_place(temporary: Path, path: Path, optional: Iterable[str]) -> None:
    """Give what was written its final name, without ever removing a folder of somebody else's files."""
    _check_kind(path, temporary.is_dir())
    if not path.is_dir():
        temporary.replace(path)
        return
    written = set(os.listdir(temporary))
    for name in sorted(written):
        entry, target = temporary / name, path / name
        if target.exists() and (entry.is_dir() or target.is_dir()):
            _remove(target)
        entry.replace(target)
    for name in optional:
        if name not in written:
            _remove(path / name)


@contextlib.contextmanager
def atomic_path(path: str | Path, optional: Iterable[str] = ()) -> Iterator[Path]:
    """Temporary name to write under, which becomes `path` only when the block ends well.

    Parameters
    ----------
    path
        Final name of a file or of a folder; its parent is created. An existing file is replaced at the end; into an
        existing folder the new entries are moved, replacing those of the same name: what else lies there stays.
    optional
        Entries of a folder that are not always written: those of an earlier run, which would be taken for this one's,
        go.

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
        _put_in_place(temporary, path, optional)
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
    """Write an AnnData, compressed; see :func:`atomic_path` for what can fail.

    X and layers that are still in a file go from there to here piece by piece, packed as they are.
    """
    with atomic_path(path) as temporary:
        _without_stored(adata).write_h5ad(temporary, compression="gzip", compression_opts=1)
        copy_stored(adata, temporary)


def _stored(adata: AnnData) -> dict[str, Any]:
    """Matrices of a data set that are still in their file, by their place in an h5ad."""
    matrices = {"X": adata.X, **{f"layers/{name}": layer for name, layer in adata.layers.items()}}
    return {place: matrix for place, matrix in matrices.items() if is_on_disk(matrix)}


def _without_stored(adata: AnnData) -> AnnData:
    """The data set without the matrices that are still in a file; itself where there are none."""
    from anndata import AnnData

    if not _stored(adata):
        return adata
    return AnnData(
        X=None if is_on_disk(adata.X) else adata.X,
        layers={key: layer for key, layer in adata.layers.items() if not is_on_disk(layer)},
        obs=adata.obs,
        var=adata.var,
        obsm=dict(adata.obsm),
        uns=adata.uns,
    )


def copy_stored(adata: AnnData, path: Path, below: str = "") -> None:
    """Put matrices that are still in their file into another file, which has the rest of the data `below` a place."""
    stored = _stored(adata)
    if not stored:
        return
    with h5py.File(path, "r+") as file:
        for place, matrix in stored.items():
            file.pop(f"{below}{place}", None)  # a null stands where X is not there
            source = matrix if isinstance(matrix, h5py.Dataset) else matrix.group
            source.file.copy(source, file, f"{below}{place}")


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
        raise InputError(cannot_open(path, exc)) from exc
    except ValueError as exc:
        raise InputError(f"{path}: not a JSON file ({exc})") from exc

"""Matrices of counts read block by block, and rows of the engine's input made when they are asked for.

Whatever is summed over cells is summed over blocks of :data:`BLOCK` rows, in float64, block after block: the same bits
whether the matrix is in memory, in an h5ad or in a :class:`RowStore`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from scmodal.contracts import InputError
from scmodal.io import DISK_ERRORS, matrix_file, one_index_type, reading, to_csr

BLOCK = 2048
"""Rows that are read and summed at a time."""


class CountView:
    """Some rows and columns of a matrix, read block by block as float32 CSR without stored zeros.

    Parameters
    ----------
    matrix
        Anything whose rows can be sliced: sparse or dense, in memory, in an open h5ad, or a :class:`RowStore`.
    rows
        Positions of the rows to keep, ascending; default all.
    columns
        Positions of the columns, in the order wanted and as often as wanted; default all.
    """

    def __init__(
        self, matrix: Any, rows: NDArray[np.int64] | None = None, columns: NDArray[np.int64] | None = None
    ) -> None:
        self.matrix = one_index_type(matrix)
        self.rows = np.arange(matrix.shape[0]) if rows is None else rows
        self.columns = columns

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of columns."""
        return len(self.rows), self.matrix.shape[1] if self.columns is None else len(self.columns)

    def keep(self, rows: NDArray[np.bool_] | None = None, columns: NDArray[np.bool_] | None = None) -> CountView:
        """The view without the rows and columns where the masks are False."""
        kept = np.arange(self.matrix.shape[1]) if self.columns is None else self.columns
        return CountView(
            self.matrix,
            self.rows if rows is None else self.rows[rows],
            self.columns if columns is None else kept[columns],
        )

    def blocks(self, size: int = BLOCK) -> Iterator[sparse.csr_matrix]:
        """The rows in order, `size` at a time.

        Raises
        ------
        InputError
            The file behind the matrix cannot be read.
        """
        for start in range(0, len(self.rows), size):
            rows = self.rows[start : start + size]
            first, last = int(rows[0]), int(rows[-1])
            name = matrix_file(self.matrix)
            if name is None:
                part = self.matrix[first : last + 1]
            else:
                with reading(name, "AnnData"):
                    part = self.matrix[first : last + 1]
            part = to_csr(part)
            if len(rows) < part.shape[0]:
                part = part[rows - first]
            yield part if self.columns is None else part[:, self.columns]

    def to_memory(self) -> sparse.csr_matrix:
        """All of it as one CSR matrix in memory."""
        return join_blocks(self.blocks(), self.shape[1])


def join_blocks(blocks: Iterable[sparse.csr_matrix], n_columns: int) -> sparse.csr_matrix:
    """Blocks of rows as one CSR matrix, float32."""
    parts = list(blocks)
    return sparse.vstack(parts, format="csr") if parts else sparse.csr_matrix((0, n_columns), dtype=np.float32)


def row_sums(blocks: Iterable[sparse.csr_matrix]) -> NDArray[np.float64]:
    """Sum of each row; exact for counts."""
    parts = [
        np.bincount(np.repeat(np.arange(part.shape[0]), np.diff(part.indptr)), part.data, minlength=part.shape[0])
        for part in blocks
    ]
    return np.concatenate(parts) if parts else np.empty(0)


def column_ranges(blocks: Iterable[sparse.csr_matrix]) -> tuple[NDArray[np.float32], NDArray[np.float32], bool]:
    """Least and greatest value of each column, zeros included; and whether every value is a whole number."""
    low: Any = None
    high: Any = None
    whole = True
    for part in blocks:
        least, greatest = part.min(axis=0).toarray().ravel(), part.max(axis=0).toarray().ravel()
        low = least if low is None else np.minimum(low, least)
        high = greatest if high is None else np.maximum(high, greatest)
        whole = whole and bool((part.data == np.rint(part.data)).all())
    return low, high, whole


def column_moments(
    blocks: Callable[[], Iterable[sparse.csr_matrix]], shape: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation (ddof 1) of each column.

    Parameters
    ----------
    blocks
        Gives the rows from the start, each time it is called: it is called twice, for a sum of squares alone loses
        the spread of columns with a large mean.
    shape
        Rows and columns in all.
    """
    n, p = shape
    total, stored = np.zeros(p), np.zeros(p)
    for part in blocks():
        total += np.bincount(part.indices, weights=part.data, minlength=p)
        stored += np.bincount(part.indices, minlength=p)
    mean = total / n
    squares = (n - stored) * np.square(mean)
    for part in blocks():
        deviation = part.data - mean[part.indices]
        squares += np.bincount(part.indices, weights=np.square(deviation), minlength=p)
    return mean, np.sqrt(squares / max(n - 1, 1))


def temporary_folder() -> str:
    """Folder for large temporary files: the environment variable TMPDIR, else the system's."""
    return os.environ.get("TMPDIR") or tempfile.gettempdir()


class RowStore:
    """Rows of a sparse matrix in a private file, any of which are read fast.

    A row is one run of (column, value) records, in the narrowest types that hold them exactly, and is fetched by one
    read; only where each row starts is in memory. The file has no name: it goes when the store is closed or the
    process ends, however it ends. (Reads, not a memory map, whose pages would count as the process's memory.)

    Parameters
    ----------
    blocks
        The rows in order.
    n_columns
        Columns.
    highest
        Greatest value.
    whole
        Whether all values are whole numbers, none of them negative.

    Raises
    ------
    InputError
        The temporary folder cannot be written to, or is full.
    """

    def __init__(self, blocks: Iterable[sparse.csr_matrix], n_columns: int, highest: float, whole: bool) -> None:
        fitting = [t for t in ("u1", "u2") if whole and highest <= np.iinfo(t).max]
        value = np.dtype(fitting[0] if fitting else "f4")
        column = np.dtype(np.uint16 if n_columns <= 1 << 16 else np.uint32)
        self._record = np.dtype([("column", column), ("value", value)])
        folder = temporary_folder()
        sizes = [np.zeros(1, np.int64)]
        try:
            self._file = tempfile.TemporaryFile(prefix="scmodal-", dir=folder, buffering=0)  # noqa: SIM115
        except OSError as exc:
            raise InputError(_refused(folder, exc)) from exc
        try:
            for part in blocks:
                records = np.empty(part.nnz, self._record)
                records["column"], records["value"] = part.indices, part.data
                self._write(memoryview(records.tobytes()), folder)
                sizes.append(np.diff(part.indptr).astype(np.int64))
        except BaseException:
            self.close()
            raise
        self._indptr = np.cumsum(np.concatenate(sizes))
        self.shape = (len(self._indptr) - 1, n_columns)

    def _write(self, data: memoryview, folder: str) -> None:
        try:
            while data.nbytes:
                data = data[self._file.write(data) :]
        except OSError as exc:
            if exc.errno not in DISK_ERRORS:
                raise
            raise InputError(_refused(folder, exc)) from exc

    def take(self, index: NDArray[np.int64]) -> sparse.csr_matrix:
        """Rows at some positions, in that order, float32."""
        starts, stops = self._indptr[index], self._indptr[index + 1]
        size = self._record.itemsize
        descriptor = self._file.fileno()
        places = zip(((stops - starts) * size).tolist(), (starts * size).tolist())
        data = b"".join([os.pread(descriptor, length, offset) for length, offset in places])
        return self._matrix(data, np.concatenate([[0], np.cumsum(stops - starts)]))

    def __getitem__(self, rows: slice) -> sparse.csr_matrix:
        start, stop, _ = rows.indices(self.shape[0])
        indptr = self._indptr[start : stop + 1]
        size = self._record.itemsize
        wanted, offset = int(indptr[-1] - indptr[0]) * size, int(indptr[0]) * size
        return self._matrix(os.pread(self._file.fileno(), wanted, offset), indptr - indptr[0])

    def _matrix(self, data: bytes, indptr: NDArray[np.int64]) -> sparse.csr_matrix:
        if len(data) != indptr[-1] * self._record.itemsize:
            raise OSError(f"a temporary file in {temporary_folder()!r} was cut short while it was in use")
        records = np.frombuffer(data, self._record)
        parts = (records["value"].astype(np.float32), records["column"].astype(np.int32), indptr.astype(np.int32))
        return sparse.csr_matrix(parts, shape=(len(indptr) - 1, self.shape[1]), copy=False)

    def close(self) -> None:
        """Give the disk space back."""
        self._file.close()


def _refused(folder: str, exc: OSError) -> str:
    free = f"{shutil.disk_usage(folder).free / 1e9:.1f} GB are free there; " if os.path.isdir(folder) else ""
    return (
        f"the temporary folder {folder!r} cannot take the working copy of the counts ({exc.strerror or exc}): {free}"
        "set the environment variable TMPDIR to a folder with more space"
    )


class LazyRows:
    """The engine's input of a large data set: scaled rows computed from counts on disk when they are asked for.

    Parameters
    ----------
    store
        Counts of the input's columns.
    scaled
        Counts (rows x columns, CSR) to scaled rows (dense, float32).
    """

    def __init__(self, store: RowStore, scaled: Callable[[sparse.csr_matrix], NDArray[np.float32]]) -> None:
        self._store = store
        self._scaled = scaled
        self.shape = store.shape

    def __len__(self) -> int:
        return self.shape[0]

    def take(self, index: NDArray[np.int64]) -> NDArray[np.float32]:
        """Rows at some positions (in any order, also repeated): len(index) x columns."""
        return self._scaled(self._store.take(index))

    def chunks(self, size: int) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """All rows in order, `size` at a time, each with the slice that it is."""
        for start in range(0, len(self), size):
            rows = slice(start, min(start + size, len(self)))
            yield rows, self._scaled(self._store[rows])

    def close(self) -> None:
        """Give the disk space back; rows cannot be taken any more."""
        self._store.close()


Rows: TypeAlias = NDArray[np.float32] | LazyRows
"""Engine input: all of it in memory, or made when asked for."""


def row_chunks(x: Rows, size: int) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """All rows of an engine input in order, `size` at a time, each with the slice that it is."""
    if isinstance(x, LazyRows):
        yield from x.chunks(size)
        return
    for start in range(0, len(x), size):
        rows = slice(start, min(start + size, len(x)))
        yield rows, x[rows]


def take_rows(x: Rows, index: NDArray[np.int64]) -> NDArray[np.float32]:
    """Rows of an engine input at some positions."""
    return x.take(index) if isinstance(x, LazyRows) else x[index]

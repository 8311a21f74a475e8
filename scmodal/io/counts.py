"""Raw counts, wherever an AnnData has them, and matrices that stay on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import scipy.sparse as sp

from ..contracts import InputError
from .wording import some

if TYPE_CHECKING:
    from anndata import AnnData


CHUNK = 1 << 22  # matrix elements looked at in one go: 32 MB of doubles


def _elements(matrix: Any) -> Iterator[tuple[int, np.ndarray]]:
    """Stored values of a matrix in pieces, each with its offset: nothing is ever copied whole."""
    if is_on_disk(matrix) and not hasattr(matrix, "group"):
        rows = max(1, CHUNK // matrix.shape[1])
        for row in range(0, matrix.shape[0], rows):
            yield row * matrix.shape[1], matrix[row : row + rows].reshape(-1)
        return
    if is_on_disk(matrix):
        flat = matrix.group["data"]
    else:
        flat = matrix.data if sp.issparse(matrix) else np.ascontiguousarray(matrix).reshape(-1)
    for start in range(0, flat.size, CHUNK):
        yield start, flat[start : start + CHUNK]


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
        """The flaw in words, with the names of the cell and the feature where it is first."""
        what = {
            "nan": "missing (NaN)",
            "infinite": "infinite",
            "negative": "negative",
            "fraction": "fractional",
        }[self.kind]
        plural = "value" if self.n == 1 else "values"
        place = f"cell {str(cells[self.row])!r}, feature {str(features[self.column])!r}"
        return f"{self.n:,} {what} {plural}, first in {place}"


def find_flaw(matrix: Any) -> _Flaw | None:
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


CORRECTED = "look like corrected or estimated counts (SoupX, DecontX, alevin)"

_LOG_MAXIMUM = 20.0  # log2 of a million is 19.9: no logarithm of normalised counts is above

_LOOKED_AT = 200  # cells whose values tell whether they were divided by a factor of the cell


def looks_corrected(matrix: Any) -> bool:
    """Whether values that are not negative and not whole are too large for logarithms, and not brought to a total.

    Counts that were brought to a total have that total, unless features were dropped since, and are multiples of what
    a count of one became. Those that a correction for ambient RNA or an estimate of transcripts leaves are neither.
    """
    if max((float(values.max(initial=0.0)) for _, values in _elements(matrix)), default=0.0) <= _LOG_MAXIMUM:
        return False
    rows = sp.csr_matrix(matrix.tocsr()[:_LOOKED_AT] if sp.issparse(matrix) else matrix[:_LOOKED_AT])
    totals = np.asarray(rows.sum(axis=1, dtype=np.float64)).ravel()
    if len(totals) > 1 and np.ptp(totals) < 1e-3 * totals.max():
        return False
    multiples = []
    for row in rows:
        values = row.data[row.data > 0]
        if len(values) > 1:
            ratios = values / values.min()
            ratios = ratios[ratios < 50]  # of larger ones, rounded values do not tell whether they are whole
            multiples.append(bool(np.all(np.abs(ratios - np.rint(ratios)) < 0.01)))
    return bool(multiples) and float(np.mean(multiples)) < 0.5


def _other_layers(adata: AnnData) -> str:
    """Sentence about the layers that counts are not looked for in; those of whole numbers may be them."""
    others = [str(key) for key in adata.layers if key != "counts"]
    whole = [key for key in others if adata.layers[key].dtype.kind in "biuf" and find_flaw(adata.layers[key]) is None]
    if whole:
        return (
            f". Layer {whole[0]!r} holds whole numbers: if these are the counts, "
            f"adata.layers['counts'] = adata.layers[{whole[0]!r}]"
        )
    return f". Layers that are there: {some(others)}" if others else ""


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
        normalised, or corrected and not rounded. Each place looked at and the other layers are in the message.
    """
    places: list[tuple[str, Any, Any]] = []
    if "counts" in adata.layers:
        places.append(("layers/counts", adata.layers["counts"], adata.var_names))
    if adata.X is not None:
        places.append(("X", adata.X, adata.var_names))
    if adata.raw is not None:
        places.append(("raw", adata.raw.X, adata.raw.var_names))
    seen: dict[str, tuple[_Flaw, str]] = {}
    corrected = ""
    for where, matrix, features in places:
        if matrix.dtype.kind not in "biuf":
            continue
        flaw = find_flaw(matrix)
        if flaw is None:
            return matrix, where
        seen[where] = (flaw, flaw.text(adata.obs_names, features))
        if not corrected and flaw.kind == "fraction" and looks_corrected(matrix):
            corrected = where
    looked = "; ".join(
        f"{where}: {seen[where][1] if where in seen else 'not there'}" for where in ("layers/counts", "X", "raw")
    )
    if corrected:
        raise InputError(
            f"{name}: the values of {corrected} {CORRECTED}, and no whole counts are anywhere ({looked}). Round them "
            "(numpy.rint), or put the counts from before the correction into layers['counts']" + _other_layers(adata)
        )
    mend = (
        "Put raw counts into layers['counts'], X or raw.X, or give the file from before normalisation"
        + _other_layers(adata)
    )
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
    rows = max(1, CHUNK // max(1, matrix.shape[1]))
    parts = [
        sp.csr_matrix(np.asarray(matrix[start : start + rows], dtype=np.float32))
        for start in range(0, matrix.shape[0], rows)
    ]
    return sp.vstack(parts, format="csr") if parts else sp.csr_matrix(matrix.shape, dtype=np.float32)

"""Latent semantic indexing: the leading components of a matrix of peaks."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from .contracts import DataError
from .rows import BLOCK, CountView, row_sums

N_COMPONENTS = 50
"""Most components that are kept."""

MAX_CORRELATION = 0.75
"""A component that correlates with the depth of the cells more than this (in absolute value) is left out."""

_SCALE = 1e4
_AT_A_TIME = 10_000_000  # stored values


def tf_idf(counts: sp.csr_matrix) -> sp.csr_matrix:
    """``log1p(1e4 * tf * idf)``: tf a peak's share of a cell's counts, idf the cells by those with the peak.

    Parameters
    ----------
    counts
        Cells x peaks.

    Returns
    -------
    Cells x peaks, float32 CSR; as sparse as the counts.
    """
    view = CountView(counts)
    total = row_sums(view.blocks())
    idf = (counts.shape[0] / np.maximum(_cells_with(counts), 1)).astype(np.float32)
    share = np.divide(_SCALE, total, out=np.zeros_like(total), where=total > 0).astype(np.float32)
    values = counts.data.astype(np.float32)
    # Some rows at a time: as a whole, what each value is multiplied by would take more memory than the counts.
    for start in range(0, counts.shape[0], BLOCK):
        rows = slice(start, start + BLOCK)
        ends = counts.indptr[start : start + BLOCK + 1]
        part = values[ends[0] : ends[-1]]
        part *= np.repeat(share[rows], np.diff(ends))
        part *= idf[counts.indices[ends[0] : ends[-1]]]
        np.log1p(part, out=part)
    return sp.csr_matrix((values, counts.indices, counts.indptr), shape=counts.shape, copy=False)


def _cells_with(counts: sp.csr_matrix) -> NDArray[np.int64]:
    """In how many cells each peak is stored."""
    cells = np.zeros(counts.shape[1], np.int64)
    for start in range(0, counts.nnz, _AT_A_TIME):  # bincount makes a copy of twice the size of what it is given
        cells += np.bincount(counts.indices[start : start + _AT_A_TIME], minlength=counts.shape[1])
    return cells


def _without_empty(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """The columns with a stored value; the values are not copied."""
    present = _cells_with(matrix) > 0
    if present.all():
        return matrix
    position = np.cumsum(present, dtype=matrix.indices.dtype) - 1
    shape = (matrix.shape[0], int(present.sum()))
    return sp.csr_matrix(
        (matrix.data, position.astype(matrix.indices.dtype)[matrix.indices], matrix.indptr), shape=shape, copy=False
    )


def lsi(counts: sp.csr_matrix, n_components: int = N_COMPONENTS) -> tuple[NDArray[np.float32], list[str]]:
    """TF-IDF and truncated SVD of counts of peaks; the same counts give the same numbers.

    Parameters
    ----------
    counts
        Cells x peaks, CSR.
    n_components
        Most components to keep.

    Returns
    -------
    Cells x components (at most `n_components`, float32): left singular vectors times singular values, the strongest
    first, without those that follow the depth of the cells; and what was left out, in sentences.

    Raises
    ------
    DataError
        Too few cells or peaks for a single component.
    """
    from sklearn.utils.extmath import randomized_svd

    # Empty peaks weigh nothing, but the same cells give the same numbers with and without them.
    weighed = _without_empty(tf_idf(counts))
    n = min(n_components + 1, min(weighed.shape) - 1)
    if n < 1:
        raise DataError(
            f"{weighed.shape[0]} cells and {weighed.shape[1]} open peaks are too few for components of peaks"
        )
    depth = np.log1p(row_sums(CountView(counts).blocks()))
    # Four power iterations: the leading components are settled, and each costs two products with all the counts.
    left, values, _ = randomized_svd(weighed, n, n_iter=4, random_state=0)
    scores = left * values
    spread = scores.std(axis=0)
    correlation = np.zeros(n)
    if depth.std() > 0:
        centred = (depth - depth.mean()) @ (scores - scores.mean(axis=0)) / len(depth)
        correlation = np.divide(centred, spread * depth.std(), out=np.zeros(n), where=spread > 0)
    follows = np.abs(correlation) > MAX_CORRELATION
    if follows.all():
        follows[:] = False
    kept = np.flatnonzero(~follows)[:n_components]
    text = f"The peaks have {len(kept)} components in obsm['X_lsi'] (TF-IDF, SVD)"
    if follows.any():
        listed = ", ".join(f"{i + 1} (r = {correlation[i]:.2f})" for i in np.flatnonzero(follows))
        text += f"; left out, as they follow the depth of the cells: {listed}"
    return np.ascontiguousarray(scores[:, kept], dtype=np.float32), [text + "."]

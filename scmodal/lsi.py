"""Latent semantic indexing: the leading components of a matrix of peaks."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from .contracts import DataError

N_COMPONENTS = 50
"""Most components that are kept."""

MAX_CORRELATION = 0.75
"""A component that correlates with the depth of the cells more than this (in absolute value) is left out."""

_SCALE = 1e4


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
    total = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    cells = np.bincount(counts.indices, minlength=counts.shape[1])
    idf = counts.shape[0] / np.maximum(cells, 1)
    share = np.divide(_SCALE, total, out=np.zeros_like(total), where=total > 0)
    values = counts.data * np.repeat(share, np.diff(counts.indptr)).astype(np.float32)
    values *= idf.astype(np.float32)[counts.indices]
    return sp.csr_matrix((np.log1p(values, out=values), counts.indices, counts.indptr), shape=counts.shape)


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

    present = np.flatnonzero(np.bincount(counts.indices, minlength=counts.shape[1]))
    if len(present) < counts.shape[1]:
        counts = counts[:, present]
    depth = np.log1p(np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel())
    n = min(n_components + 1, min(counts.shape) - 1)
    if n < 1:
        raise DataError(f"{counts.shape[0]} cells and {counts.shape[1]} open peaks are too few for components of peaks")
    # Four power iterations: the leading components are settled, and each costs two products with all the counts.
    left, values, _ = randomized_svd(tf_idf(counts), n, n_iter=4, random_state=0)
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

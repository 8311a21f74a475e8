"""Principal components of a data set of any size, and of two together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scmodal.rows import Rows, row_chunks, take_rows

PCA_CELLS = 20_000
"""Cells that principal components are found on; a larger data set gives as many, drawn at random."""

_CHUNK = 2048
_BLOCK = 50_000


def principal_components(x: Rows, n_components: int) -> NDArray[np.float32]:
    """Leading principal components, found on at most :data:`PCA_CELLS` cells.

    Parameters
    ----------
    x
        Scaled features, cells x p, in memory or made when taken.
    n_components
        How many; fewer where there are fewer cells or features.

    Returns
    -------
    cells x components, float32.
    """
    from sklearn.decomposition import PCA

    n, p = x.shape
    n_components = min(n_components, p, n - 1)
    full = n_components == min(n, p)
    pca = PCA(n_components=n_components, svd_solver="full" if full else "randomized", random_state=0)
    if n <= PCA_CELLS:
        return np.asarray(pca.fit_transform(take_rows(x, np.arange(n))), np.float32)
    chosen = np.sort(np.random.default_rng(0).choice(n, PCA_CELLS, replace=False))
    pca.fit(take_rows(x, chosen))
    components = np.empty((n, n_components), np.float32)
    for rows, values in row_chunks(x, _CHUNK):
        components[rows] = pca.transform(values)
    return components


def joint_components(
    a: NDArray[np.float32], b: NDArray[np.float32], n_components: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Leading principal components of two tables of the same columns, one below the other; not centred.

    Parameters
    ----------
    a, b
        Cells x m.
    n_components
        How many, at most m.

    Returns
    -------
    Both tables in these components, cells x components, float32.
    """
    n = len(a) + len(b)
    mean = (a.sum(0) + b.sum(0)) / n
    # directions of the scatter of both, without stacking them
    _, vectors = np.linalg.eigh(scatter(a) + scatter(b) - n * np.outer(mean, mean))
    axes = vectors[:, : -n_components - 1 : -1].astype(np.float32)
    return a @ axes, b @ axes


def scatter(x: NDArray[np.float32], centre: NDArray[np.float32] | float = 0.0) -> NDArray[np.float64]:
    """Sums of products of columns in double precision, some rows at a time: copies of large data would be larger yet.

    Parameters
    ----------
    x
        Cells x m.
    centre
        Taken off every row (m).

    Returns
    -------
    m x m.
    """
    total = np.zeros((x.shape[1], x.shape[1]))
    for start in range(0, len(x), _BLOCK):
        part = x[start : start + _BLOCK] - centre
        total += part.T.astype(np.float64) @ part
    return total

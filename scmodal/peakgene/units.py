"""Units of analysis: neighbourhoods of alike cells in the latent space (metacells)."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from scmodal.contracts import DataError
from scmodal.neighbours import nearest_neighbours

MIN_UNITS = 10
"""Fewer units than this say nothing about a correlation."""

# Cells tried as the centre of a unit, for each unit wanted; beyond that the rest overlap with what is there.
_TRIES = 20


def choose_units(
    z: np.ndarray, n_units: int = 500, size: int = 50, max_overlap: float = 0.5, seed: int = 0
) -> sp.csr_matrix:
    """Neighbourhoods of cells that share at most a part of their cells with any other.

    Cells are tried as centres in random order; the neighbourhood of one (itself and its ``size - 1`` nearest) is taken
    unless it shares too much with a neighbourhood taken before.

    Parameters
    ----------
    z
        Latents, cells x dimensions.
    n_units
        Units at most.
    size
        Cells of a unit; of few cells (less than ten units' worth) a unit takes a tenth, but five at least.
    max_overlap
        Greatest share of a unit's cells that are in any one other unit (0: units are disjoint; 1: only equal units
        are left out).
    seed
        Of the order in which cells are tried.

    Returns
    -------
    csr_matrix
        Units x cells, 1 where the cell is in the unit (float32).

    Raises
    ------
    DataError
        Fewer than :data:`MIN_UNITS` units can be made.
    """
    n = len(z)
    size = fitting_size(n, size)
    if n < MIN_UNITS or n < size:
        raise DataError(
            f"{n} cells are too few for {MIN_UNITS} units of alike cells (--unit-size, --max-overlap); "
            "peak-gene correlations need some hundred cells"
        )
    allowed = size - 1 if max_overlap >= 1 else int(np.floor(max_overlap * size + 1e-9))
    order = np.random.default_rng(seed).permutation(n)[: _TRIES * n_units]
    choice = _Choice(n, allowed)
    for start in range(0, len(order), 2 * n_units):  # most often the first block is enough
        for cells in _neighbourhoods(z, order[start : start + 2 * n_units], size, seed):
            if len(choice.taken) < n_units:
                choice.offer(cells)
        if len(choice.taken) == n_units:
            break
    taken = choice.taken
    if len(taken) < MIN_UNITS:
        raise DataError(
            f"only {len(taken)} units of {size} alike cells can be made of {n:,} cells, {MIN_UNITS} are needed: choose "
            "a smaller --unit-size or a larger --max-overlap"
        )
    columns = np.concatenate(taken)
    rows = np.repeat(np.arange(len(taken)), size)
    units = sp.csr_matrix((np.ones(len(columns), np.float32), (rows, columns)), shape=(len(taken), n))
    units.sort_indices()
    return units


def fitting_size(n_cells: int, size: int) -> int:
    """Size of a unit for so many cells: as wanted, but no more than a tenth of them, and five at least."""
    return min(size, max(5, n_cells // 10))


def _neighbourhoods(z: np.ndarray, centres: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Each centre and its nearest cells: centres x size."""
    if size == 1:
        return centres[:, None]
    # a cell is its own nearest, unless others lie on the very same spot: then any of them will do
    found, _ = nearest_neighbours(np.asarray(z), np.asarray(z)[centres], size, seed)
    missing = ~(found == centres[:, None]).any(axis=1)
    found[missing, -1] = centres[missing]
    return found


class _Choice:
    """The neighbourhoods taken so far."""

    def __init__(self, n_cells: int, allowed: int) -> None:
        self.taken: list[np.ndarray] = []
        self._allowed = allowed
        self._holders: list[list[int]] = [[] for _ in range(n_cells)]  # by cell, the taken units that it is in

    def offer(self, cells: np.ndarray) -> None:
        """Take a neighbourhood unless it shares more cells than allowed with one taken before."""
        inside = [unit for cell in cells for unit in self._holders[cell]]
        if inside and np.bincount(inside).max() > self._allowed:
            return
        for cell in cells:
            self._holders[cell].append(len(self.taken))
        self.taken.append(cells)

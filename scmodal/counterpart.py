"""Whether a cell has its like in the other data set, told before anything is trained.

Training mixes the data sets and pulls a population that only one of them has onto another one; afterwards it lies there
near and unanimous. In the matched coordinates (:mod:`scmodal.matching`) it still lies apart. Cells are paired there by
unbalanced optimal transport with an entropic term (Chizat et al. 2018, doi:10.1090/mcom/3303): mass may be left behind
where moving it costs more than leaving it. How much of a cell's mass finds a place says how much of a counterpart it
has, and other than a mere distance it takes into account that places are taken by cells that fit better.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

COLUMN = "scmodal_counterpart_"
"""Before the other modality's name: column of ``obs``."""

ALONE = 0.7
"""A cell below has no counterpart, or one that is several times too rare."""

MANY_ALONE = 0.1
"""Share of a data set's cells without a counterpart above which a population is missing on the other side; about half
as many may be found alone by mistake."""

CELLS = 2_000
"""Cells of each side that the transport is solved for; those of a larger data set follow from it."""

_ENTROPY = 0.05  # of the transport, in units of cosine distance
_LEFT_BEHIND = 0.3  # price of mass that is left behind, likewise
_ITERATIONS = 100
_COMPONENTS, _NEIGHBOURS = 30, 30  # neighbourhoods that the mass is averaged over: populations are missing, not cells
_BLOCK = 2_000


def left_alone(values: Floats, least: float) -> NDArray[np.bool_]:
    """Which cells are without a counterpart, where these are so many that it is no mistake; else none.

    Parameters
    ----------
    values
        One data set's part of :func:`counterparts`.
    least
        Below which a cell has no counterpart.
    """
    alone = values < least
    return alone if alone.mean() > MANY_ALONE else np.zeros_like(alone)


def counterparts(coordinates: tuple[Floats, Floats], components: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    """How much of a counterpart each cell has on the other side.

    Parameters
    ----------
    coordinates
        Matched coordinates of both sides' cells (cells_a x m, cells_b x m), rows of unit length.
    components
        Components of each side's own features (cells_a x k, cells_b x l), in which neighbourhoods are found.

    Returns
    -------
    For each side one value a cell: its transported mass over the data set's median, averaged over its neighbourhood. 1
    is usual; under :data:`ALONE` a cell hardly has a counterpart.
    """
    from scmodal.anchors import smooth  # here, for it brings torch, which those who read the column do not need

    rng = np.random.default_rng(0)
    some = [item[np.sort(rng.choice(len(item), min(len(item), CELLS), replace=False))] for item in coordinates]
    potentials = _transport(some[0], some[1])
    found = []
    for side, (own, mine) in enumerate(zip(coordinates, components)):
        mass = _mass(own, some[1 - side], potentials[1 - side])
        share = _NEIGHBOURS / (_NEIGHBOURS + 1.0)  # the cell counts as one of its neighbours does
        relative = (mass / np.median(mass)).astype(np.float32)[:, None]
        found.append(smooth(relative, mine[:, :_COMPONENTS], share, _NEIGHBOURS)[:, 0])
    return found[0], found[1]


def _kernel(a: Floats, b: Floats) -> NDArray[np.float64]:
    """exp(-cosine distance / entropy) of all pairs."""
    return np.exp((a @ b.T).astype(np.float64) / _ENTROPY - 1.0 / _ENTROPY)


def _transport(a: Floats, b: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scaling of both sides' kernel rows at which the unbalanced transport is solved (Sinkhorn's iterations)."""
    kernel = _kernel(a, b)
    u, v = np.ones(len(a)), np.ones(len(b))
    power = _LEFT_BEHIND / (_LEFT_BEHIND + _ENTROPY)
    tiny = np.finfo(np.float64).tiny
    for _ in range(_ITERATIONS):
        u = (1.0 / (len(a) * np.maximum(kernel @ v, tiny))) ** power
        v = (1.0 / (len(b) * np.maximum(u @ kernel, tiny))) ** power
    return u, v


def _mass(own: Floats, other: Floats, potential: NDArray[np.float64]) -> NDArray[np.float64]:
    """Transported mass of cells, up to a factor, from the solution for some cells of the other side.

    A cell's own scaling is (1 / (n s))^p for s = kernel row times potential, and its mass that times s.
    """
    power = _ENTROPY / (_LEFT_BEHIND + _ENTROPY)
    out = np.empty(len(own))
    for start in range(0, len(own), _BLOCK):
        rows = slice(start, min(start + _BLOCK, len(own)))
        out[rows] = (_kernel(own[rows], other) @ potential) ** power
    return np.maximum(out, np.finfo(np.float64).tiny)

"""What can be known about a match of cells without labels and without pairs.

Two questions. Do the links say anything at all: cells are matched by some of the links, and the others are asked
whether they agree between matched cells, more than links do that pair features at random (:func:`held_out`). And is a
trained latent space any good: do matched cells agree on the links, does a cell that is matched there and back come
home with what it set out with, can its match be told from it, do the data sets mix (:func:`latent_scores`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from scmodal.matching import match
from scmodal.metrics import neighbour_mixing
from scmodal.neighbours import nearest_neighbours

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]

MATCHES = 20
"""Nearest cells of the other side whose mean says what a cell's features should be."""

LEAST_GROUPS = 6
"""Independent links that are needed to part them into links to match by and links to judge by."""

_CELLS = 2_000  # of each side, for the matches of the null
_GROUPS = 300  # of links, likewise: more cost time and say no more
_MIXING_NEIGHBOURS = 50
_HOME = 0.01  # a cell has come home if it returns to this share of its own data set that is nearest to it ...
_LEAST_HOME = 10  # ... or to this many cells
_RIDGE = 0.03  # of the regression on components, relative to their mean variance


@dataclass(frozen=True)
class HeldOut:
    """Agreement of links that cells were not matched by.

    Attributes
    ----------
    observed
        Pearson's r between a cell's linked feature and its mean over the cell's matches, averaged over held-out links
        and both directions.
    null
        The same with links that pair features at random (n).
    """

    observed: float
    null: NDArray[np.float64]

    @property
    def z(self) -> float:
        """How many standard deviations of the null the observed agreement is above its mean."""
        return float((self.observed - self.null.mean()) / max(self.null.std(ddof=1), 1e-6))


def agreement(matches: tuple[Indices, Indices], features: tuple[Floats, Floats]) -> float:
    """How well matched cells agree on features that both sides have.

    Parameters
    ----------
    matches
        For every cell of A rows of B (cells_a x k), and for every cell of B rows of A (cells_b x k).
    features
        The same features of both (cells_a x m, cells_b x m).

    Returns
    -------
    Pearson's r between a cell's value and the mean over its matches, averaged over features and both directions; a
    feature that does not vary counts as 0.
    """
    values = []
    for nearest, own, other in ((matches[0], *features), (matches[1], *features[::-1])):
        expected = other[nearest].mean(1)
        values.append(_weighted_r(own, expected, np.ones(own.shape[1], own.dtype)))
    return float(np.mean(values))


def cross_matches(a: Floats, b: Floats, k: int = MATCHES) -> tuple[Indices, Indices]:
    """Nearest cells (Euclidean) of the other side, for every cell of both sides (cells_a x k, cells_b x k)."""
    return nearest_neighbours(b, a, k)[0], nearest_neighbours(a, b, k)[0]


def groups_of(features_a: list[str], features_b: list[str]) -> NDArray[np.int64]:
    """Links that share a feature on either side belong together: the one would give the other away.

    Parameters
    ----------
    features_a, features_b
        Features of every link (m), in the same order.

    Returns
    -------
    Number of the group of every link (m), from 0.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    a, b = (np.unique(names, return_inverse=True)[1] for names in (features_a, features_b))
    n_a, n_b = a.max() + 1, b.max() + 1
    graph = coo_matrix((np.ones(len(a)), (a, b + n_a)), shape=(n_a + n_b, n_a + n_b))
    return np.asarray(connected_components(graph, directed=False)[1][a], np.int64)


def held_out(
    linked: tuple[Floats, Floats],
    components: tuple[Floats, Floats],
    groups: NDArray[np.int64],
    share: float,
    n_null: int = 20,
    seed: int = 0,
) -> HeldOut | None:
    """Match cells by one half of the links, ask the other half, and the other way round.

    Parameters
    ----------
    linked
        Smoothed linked features of both sides (cells_a x m, cells_b x m).
    components
        Components of each side's own features (cells_a x k, cells_b x l).
    groups
        See :func:`groups_of`; a group is never parted.
    share
        As of :func:`scmodal.matching.match`, of which one round is done.
    n_null
        Random pairings of the features.
    seed
        Of the halves, the pairings, and the choice of at most 2,000 cells of each side and 300 groups.

    Returns
    -------
    None where there are fewer than :data:`LEAST_GROUPS` groups.
    """
    names = np.unique(groups)
    if len(names) < LEAST_GROUPS:
        return None
    rng = np.random.default_rng(seed)
    names = rng.permutation(names)[:_GROUPS]
    cells = [np.sort(rng.choice(len(item), min(len(item), _CELLS), replace=False)) for item in linked]
    columns = np.flatnonzero(np.isin(groups, names))
    a, b = (item[np.ix_(rows, columns)] for item, rows in zip(linked, cells))
    own = (components[0][cells[0]], components[1][cells[1]])
    first = np.isin(groups[columns], names[: len(names) // 2])

    def of(b: Floats) -> float:
        values = []
        for half in (first, ~first):
            found = match((a[:, half], b[:, half]), own, rounds=1, share=share)
            values.append(agreement(cross_matches(*found), (a[:, ~half], b[:, ~half])))
        return float(np.mean(values))

    null = np.array([of(b[:, rng.permutation(b.shape[1])]) for _ in range(n_null)])
    return HeldOut(of(b), null)


@dataclass(frozen=True)
class LatentScores:
    """A pair of data sets in a latent space, judged without labels and pairs.

    Attributes
    ----------
    coherence
        :func:`agreement` of all links between cells matched in the latent space; 1 at best.
    cycle
        Share of cells that come home: the nearest cell of the other side has, among the own side, a nearest cell
        that is among the cell's own 1 % nearest (10 at least).
    round_trip
        :func:`round_trip` of the cells' own components; 1 at best.
    predictability
        :func:`predictability` of the matched cells' components; 1 at best.
    mixing
        :func:`scmodal.metrics.neighbour_mixing`; 1 is fully mixed.
    """

    coherence: float
    cycle: float
    round_trip: float
    predictability: float
    mixing: float

    @property
    def score(self) -> float:
        """What seeds and settings are compared by: 1 at best."""
        return (self.coherence + self.round_trip + self.predictability) / 3

    def named(self) -> dict[str, float]:
        """The score and what it is made of, by name."""
        return {"score": self.score, **asdict(self)}


def round_trip(matches: tuple[Indices, Indices], own: tuple[Floats, Floats]) -> float:
    """How much of a cell is left when it is matched there and back.

    Parameters
    ----------
    matches
        As of :func:`agreement`.
    own
        Components of each side's own features (cells_a x k, cells_b x l).

    Returns
    -------
    Pearson's r, over cells, between a cell's components and their mean over the matches of its matches; averaged over
    components, weighted by their variance, and over both directions.
    """
    values = []
    for there, back, components in ((*matches, own[0]), (*matches[::-1], own[1])):
        returned = components[back].mean(1)[there].mean(1)
        values.append(_weighted_r(components, returned, components.var(0)))
    return float(np.mean(values))


def predictability(matches: tuple[Indices, Indices], own: tuple[Floats, Floats]) -> float:
    """How well a cell's own components tell those of the cell that it is matched with.

    A match that scatters like cells over places that differ cannot be told from the cell, whatever the links say.

    Parameters
    ----------
    matches
        As of :func:`agreement`; the nearest alone is asked for.
    own
        Components of each side's own features (cells_a x k, cells_b x l).

    Returns
    -------
    Share of the variance of the nearest match's components that a ridge regression on the cell's own explains in
    cells that it was not fitted to (every other cell, and the other way round), both directions averaged. It can be
    negative; 0 where the matches do not vary.
    """
    values = []
    for nearest, x, other in ((matches[0][:, 0], *own), (matches[1][:, 0], *own[::-1])):
        x, y = x - x.mean(0), other[nearest] - other[nearest].mean(0)
        even = np.arange(len(x)) % 2 == 0
        for fit in (even, ~even):
            gram = (x[fit].T @ x[fit]).astype(np.float64)
            gram[np.diag_indices(len(gram))] += _RIDGE * np.trace(gram) / len(gram) + np.finfo(np.float32).tiny
            rest = y[~fit] - x[~fit] @ np.linalg.solve(gram, x[fit].T @ y[fit])
            spread = (y[~fit] ** 2).sum()
            # all matched with the same cell, but for rounding: nothing is told
            same = spread <= 1e-6 * other.var(0).sum() * len(rest)
            values.append(0.0 if same else 1.0 - (rest**2).sum() / spread)
    return float(np.mean(values))


def _weighted_r(x: Floats, y: Floats, weights: Floats) -> float:
    """Pearson's r of each column, averaged with weights; a column that does not vary counts as 0."""
    x, y = x - x.mean(0), y - y.mean(0)
    length = np.sqrt((x**2).sum(0) * (y**2).sum(0))
    r = np.divide((x * y).sum(0), length, out=np.zeros_like(length), where=length > 1e-9)
    return float(np.average(r, weights=weights + 1e-12))


def latent_scores(z_a: Floats, z_b: Floats, linked: tuple[Floats, Floats], own: tuple[Floats, Floats]) -> LatentScores:
    """Judge a latent space.

    Parameters
    ----------
    z_a, z_b
        Latents of both sides (cells_a x d, cells_b x d).
    linked
        Smoothed linked features of the same cells (cells_a x m, cells_b x m).
    own
        Components of each side's own features (cells_a x k, cells_b x l).
    """
    matches = cross_matches(z_a, z_b)
    home = [_came_home(z_a, matches), _came_home(z_b, matches[::-1])]
    return LatentScores(
        coherence=agreement(matches, linked),
        cycle=float(np.mean(home)),
        round_trip=round_trip(matches, own),
        predictability=predictability(matches, own),
        mixing=neighbour_mixing(z_a, z_b, _MIXING_NEIGHBOURS),
    )


def _came_home(z: Floats, matches: tuple[Indices, Indices]) -> float:
    back = matches[1][matches[0][:, 0], 0]  # the nearest of the nearest
    near, _ = nearest_neighbours(z, None, max(_LEAST_HOME, round(_HOME * len(z))))
    return float(((near == back[:, None]).any(1) | (back == np.arange(len(z)))).mean())


def same_matches(first: tuple[Indices, Indices], second: tuple[Indices, Indices], own: tuple[Floats, Floats]) -> float:
    """How alike two matches of the same data are.

    Parameters
    ----------
    first, second
        Matches of every cell, as of :func:`cross_matches`.
    own
        Components of each side's own features (cells_a x k, cells_b x l).

    Returns
    -------
    Pearson's r, over cells, between the mean components of a cell's matches in the one and in the other; averaged over
    components, weighted by their variance, and over both directions.
    """
    values = []
    for a, b, other in ((first[0], second[0], own[1]), (first[1], second[1], own[0])):
        values.append(_weighted_r(other[a].mean(1), other[b].mean(1), other.var(0)))
    return float(np.mean(values))

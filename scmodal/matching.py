"""Coordinates in which the cells of two data sets can be compared, before anything is trained.

Links alone are few or noisy. What else a data set measured says more about a cell, but has no counterpart on the other
side. Mutual neighbours by the links give pairs of cells that are alike; from these pairs follows which directions in
the one data set's components go with which in the other's (a canonical correlation analysis, CCA), and with those
directions the pairs are found anew, and better. Once networks have been trained for a while, their latents give better
pairs still (:mod:`scmodal.rematching`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from scmodal.anchors import mutual_neighbours, unit_rows
from scmodal.components import joint_components, scatter

Floats = NDArray[np.float32]

CELLS = 5_000
"""Cells of each side that pairs are sought among; a larger data set gives as many, drawn at random."""

_JOINT = 30  # principal components of the links of both sides together
_CANONICAL = 20  # canonical directions
_NEIGHBOURS = 0.02  # share of the other side's cells among which a mutual neighbour must be
_LEAST_NEIGHBOURS = 10
# Variance added to every component before whitening, relative to the greatest: trailing components are mostly noise.
_RIDGE = 0.03
_BLOCK = 50_000


@dataclass(frozen=True)
class Side:
    """What the coordinates of one side of a pair are made of.

    Attributes
    ----------
    links
        Linked features, or their leading components (cells x m), rows of unit length.
    own
        Whitened components of the data set's own features (cells x k).
    chosen
        Positions of the cells that pairs are sought among, at most :data:`CELLS`.
    """

    links: Floats
    own: Floats
    chosen: NDArray[np.int64]


Sides = tuple[Side, Side]


@dataclass(frozen=True)
class Directions:
    """Canonical directions of both sides' own components, and how much they count.

    Attributes
    ----------
    both
        Of each side (components x directions), weighted by their correlation.
    share
        Weight of the canonical coordinates in the cosine between cells; the rest is the links'.
    """

    both: tuple[Floats, Floats]
    share: float


def sides_of(linked: tuple[Floats, Floats], components: tuple[Floats, Floats], weights: Floats | None = None) -> Sides:
    """What both sides' coordinates are made of; parameters as of :func:`match`."""
    links = _joint(linked, weights)
    rng = np.random.default_rng(0)
    chosen = [np.sort(rng.choice(len(item), min(len(item), CELLS), replace=False)) for item in links]
    a, b = (Side(link, _whitened(own), cells) for link, own, cells in zip(links, components, chosen))
    return a, b


def match(
    linked: tuple[Floats, Floats],
    components: tuple[Floats, Floats],
    rounds: int,
    share: float,
    weights: Floats | None = None,
) -> tuple[Floats, Floats]:
    """Coordinates of both sides' cells in one space, from their linked features and their own components.

    Parameters
    ----------
    linked
        Linked features of both sides (cells_a x m, cells_b x m), smoothed.
    components
        Components of each side's own features (cells_a x k, cells_b x l).
    rounds
        How often pairs are sought and canonical directions found from them.
    share
        Weight of the canonical coordinates in the cosine between cells; the rest is the links'.
    weights
        How much each link counts among the links (m); all alike without.

    Returns
    -------
    Two tables with as many columns, rows of unit length: the cosine between a cell of each is how alike they are.
    """
    return matched(sides_of(linked, components, weights), rounds, share)


def matched(sides: Sides, rounds: int, share: float) -> tuple[Floats, Floats]:
    """The same of sides that are ready; parameters and result as of :func:`match`."""
    a, b = sides
    found = a.links, b.links
    for _ in range(rounds):
        pairs = _mutual(found[0][a.chosen], found[1][b.chosen])
        found = coordinates(sides, Directions(_canonical(a.own[a.chosen], b.own[b.chosen], pairs), share))
    return found


def match_again(sides: Sides, latents: tuple[Floats, Floats], device: torch.device | None = None) -> Directions:
    """Directions from pairs that are found in a latent space.

    How much they count is told by the pairs themselves: the squared cosine between the canonical coordinates of a
    pair's cells, on average, which is the share of one cell's coordinates that the other's explain. It is high
    for RNA and proteins, and lower for RNA and sparse chromatin, where links hold the sides together.

    Parameters
    ----------
    sides
        See :func:`sides_of`.
    latents
        Latents of the chosen cells of both sides (chosen x n_latent).
    device
        On which pairs are sought; without it the CPU.
    """
    own_a, own_b = (side.own[side.chosen] for side in sides)
    places = [_unit(z - z.mean(0)) for z in latents]
    i, j = _mutual(places[0], places[1], device)
    directions = _canonical(own_a, own_b, (i, j))
    a, b = _unit(own_a @ directions[0]), _unit(own_b @ directions[1])
    alike = float(np.einsum("ij,ij->i", a[i], b[j]).mean()) if len(i) else 0.0
    return Directions(directions, max(alike, 0.0) ** 2)


def coordinates(sides: Sides, directions: Directions) -> tuple[Floats, Floats]:
    """Canonical coordinates and links of all cells side by side, rows of unit length."""
    a, b = (
        np.concatenate([part for _, part in coordinate_blocks(side, of, directions.share)])
        for side, of in zip(sides, directions.both)
    )
    return a, b


def coordinate_blocks(side: Side, directions: Floats, share: float) -> Iterator[tuple[slice, Floats]]:
    """The same of one side, some cells at a time: large data have no room for several copies."""
    for start in range(0, len(side.own), _BLOCK):
        rows = slice(start, min(start + _BLOCK, len(side.own)))
        canonical, links = _unit(side.own[rows] @ directions), side.links[rows]
        yield rows, _unit(np.hstack([share**0.5 * canonical, (1.0 - share) ** 0.5 * links]))


def _unit(x: Floats) -> Floats:
    return unit_rows(x).numpy()


def _joint(linked: tuple[Floats, Floats], weights: Floats | None) -> list[Floats]:
    """Principal components of the standardised links of both sides together, rows of unit length.

    Many links share few directions; what is left out of those is mostly noise.
    """
    standard = [(item - item.mean(0)) / np.maximum(item.std(0), 1e-6) for item in linked]
    scaled = [_unit(item if weights is None else item * np.sqrt(weights)) for item in standard]
    m = scaled[0].shape[1]
    if m <= _JOINT:
        return scaled
    joint = joint_components(scaled[0], scaled[1], _JOINT)
    # each side about its own mean: what shifts a whole data set says nothing of its cells
    return [_unit(item - item.mean(0)) for item in joint]


def _whitened(components: Floats) -> Floats:
    """Components with their covariance (and a ridge) taken off."""
    centred = components - components.mean(0)
    values, vectors = np.linalg.eigh(scatter(centred) / len(centred))
    values = np.maximum(values, 0.0)
    floor = max(_RIDGE * values[-1], np.finfo(np.float32).tiny)  # of components without any spread
    root = vectors / np.sqrt(values + floor) @ vectors.T
    return np.asarray(centred @ root.astype(np.float32))


def _mutual(a: Floats, b: Floats, device: torch.device | None = None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of mutual nearest neighbours."""
    k_a, k_b = (min(len(other), max(_LEAST_NEIGHBOURS, round(_NEIGHBOURS * len(other)))) for other in (b, a))
    left, right = (torch.as_tensor(item, device=device) for item in (a, b))
    found = mutual_neighbours(left, right, k_a=k_a, k_b=k_b)
    i, j = torch.nonzero(found, as_tuple=True)
    return i.cpu().numpy(), j.cpu().numpy()


def _canonical(a: Floats, b: Floats, pairs: tuple[NDArray[np.int64], NDArray[np.int64]]) -> tuple[Floats, Floats]:
    """Directions of both sides' whitened components that vary together over the pairs, times their correlation.

    A cell with many pairs counts for more than one with few, but less than by their number.
    """
    i, j = pairs
    weight = 1.0 / np.sqrt(np.bincount(i, minlength=len(a))[i] * np.bincount(j, minlength=len(b))[j].astype(np.float64))
    covariance = (a[i] * weight[:, None].astype(np.float32)).T @ b[j] / max(weight.sum(), 1.0)
    u, correlations, v = np.linalg.svd(covariance, full_matrices=False)
    u, v, correlations = u[:, :_CANONICAL], v[:_CANONICAL].T, correlations[:_CANONICAL]
    return (u * correlations).astype(np.float32), (v * correlations).astype(np.float32)

"""Latent coordinates as they are given to users, and as the networks know them.

How far a cell lies from the middle of the latent space is mostly how clearly it was measured: the same cell state lies
further out in the data set that shows it better. Directions are the state. Evening the lengths brings true partners
nearer to each other; it can be undone, so that nothing is lost to the generators.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def evened(z: Floats, power: float) -> Floats:
    """Latents divided by their length to a power.

    Parameters
    ----------
    z
        The networks' latents, cells x n_latent.
    power
        From 0 (unchanged) to below 1 (at 1 all cells would be at one distance from the middle).

    Returns
    -------
    cells x n_latent; a cell in the very middle stays there.
    """
    return _stretched(z, -power)


def lengthened(z: Floats, power: float) -> Floats:
    """The networks' latents of evened ones: the inverse of :func:`evened` with the same power."""
    return _stretched(z, power / (1.0 - power))


def _stretched(z: Floats, power: float) -> Floats:
    """Rows times their length to a power."""
    if power == 0.0:
        return z
    length = np.linalg.norm(z, axis=1, keepdims=True)
    return np.asarray(z * np.where(length > 0.0, np.maximum(length, 1e-12) ** power, 0.0), np.float32)

"""Latents that cells could as well have been given: how much of a place is noise of the measurement.

What a generator does not reproduce of a cell is what the latent space does not hold of it, noise for the most part. A
cell that is given the residuals of other cells, each feature's from another one, is as it could have been measured
again; the encoder tells where it would then lie. (A bootstrap of residuals: Efron 1979, doi:10.1214/aos/1176344552.)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from scmodal.rows import Rows, take_rows

Floats = NDArray[np.float32]
Network = Callable[[Floats, NDArray[np.intp]], Floats]
"""Called with rows and the positions of the cells that they are of."""

REDRAWN = "X_scmodal_redrawn"
"""Key of the redrawn latents in ``obsm`` of every modality."""

CELLS = 20_000
"""Cells of a data set that are redrawn; of a larger one as many are chosen, always the same."""

_CHUNK = 2048
"""Cells among which residuals are exchanged."""


def redrawn(x: Rows, z: Floats, feature: NDArray[np.intp], encode: Network, generate: Network) -> Floats:
    """Latents of a data set's cells, had they been measured again.

    Parameters
    ----------
    x
        Scaled input, cells x columns.
    z
        Latents, cells x n_latent.
    feature
        Number of each column's feature, from 0: columns of one feature, which has several links, have one measurement.
    encode, generate
        The data set's encoder (input to latents) and generator (latents to input).

    Returns
    -------
    cells x n_latent: the latent, moved as the encoder moves the cell between its reproduction alone and the
    reproduction with other cells' residuals. Rows of NaN for the cells beyond :data:`CELLS`.
    """
    rng = np.random.default_rng(0)
    cells = np.arange(len(z)) if len(z) <= CELLS else np.sort(rng.choice(len(z), CELLS, replace=False))
    out = np.full_like(z, np.nan)
    for part in np.array_split(cells, -(-len(cells) // _CHUNK)):
        plain = generate(z[part], part)
        again = plain + exchanged(take_rows(x, part) - plain, feature, rng)
        out[part] = z[part] + encode(again, part) - encode(plain, part)
    return out


def exchanged(residuals: Floats, feature: NDArray[np.intp], rng: np.random.Generator) -> Floats:
    """Residuals in another order of cells, which is another one for each feature.

    Parameters
    ----------
    residuals
        Cells x columns.
    feature
        Number of each column's feature, from 0.
    rng
        Draws the orders.
    """
    order = np.argsort(rng.random((len(residuals), int(feature.max()) + 1), dtype=np.float32), axis=0)
    return np.take_along_axis(residuals, order[:, feature], axis=0)

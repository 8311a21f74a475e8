"""How well a feature can be imputed, told without measuring it.

What is imputed is meant to be the expectation of a feature given a cell's place in the latent space. Such an
expectation correlates with the feature itself by exactly its own standard deviation, in units of the feature's: of a
feature that the place says nothing about, all cells get the mean, and of one that it tells in full they get its whole
spread. So the spread of imputed values is the correlation to expect, as far as the integration is right.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEAST_R = 0.1
"""A feature with a lower expected correlation cannot be imputed."""


CELLS = 5_000
"""Training cells of which the spread is taken, at the most."""


def expected_r(scaled: NDArray[np.float32]) -> NDArray[np.float32]:
    """Expected Pearson correlation of imputed with true values, from 0 to 1, one a feature.

    Parameters
    ----------
    scaled
        Imputed values in units of the feature's standard deviation (cells x features), of cells of all kinds: among few
        or of one kind neither the imputed nor the true values have their whole spread.
    """
    return np.minimum(scaled.std(0, dtype=np.float64), 1.0).astype(np.float32)


def cannot_be_imputed(names: list[str], expected_r: NDArray[np.float32], source: str, target: str) -> str:
    """A sentence that names the features that cannot be imputed; empty where all can."""
    from scmodal.io import some

    bad = [name for name, r in zip(names, expected_r) if r < LEAST_R]
    if not bad:
        return ""
    return (
        f"{len(bad):,} of {len(names):,} {target} features cannot be imputed from {source} (expected correlation below "
        f"{LEAST_R:g}): {some(bad)}. Column expected_r of var tells them."
    )

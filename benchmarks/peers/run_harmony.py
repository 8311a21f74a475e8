"""Harmony on the principal components of the linked features, the data set being the batch.

Settings: harmonypy's own (theta 2, sigma 0.1, at most 10 rounds, 4 of k-means in each), on 30 components, or one less
than there are links.
"""

import harmonypy
import numpy as np
import pandas as pd
from exchange import Task

COMPONENTS = 30

if __name__ == "__main__":
    task = Task.from_arguments()
    first, second = task.linked()
    joint = np.concatenate([first, second]).astype(np.float64)
    joint -= joint.mean(axis=0)
    n = min(COMPONENTS, joint.shape[1] - 1)
    u, s, _ = np.linalg.svd(joint, full_matrices=False)
    batch = pd.DataFrame({"data_set": ["first"] * len(first) + ["second"] * len(second)})
    found = harmonypy.run_harmony(
        u[:, :n] * s[:n], batch, ["data_set"], random_state=task.seed, ncores=task.threads, verbose=False
    )
    corrected = np.asarray(found.Z_corr)
    if corrected.shape[0] != len(joint):
        corrected = corrected.T
    task.finish(corrected[: len(first)], corrected[len(first) :], dimensions=n)

"""Canonical correlation of Seurat (RunCCA, then L2Dim) on the linked features.

Settings: those of Seurat's FindIntegrationAnchors, 30 dimensions (or one less than there are links), every feature
scaled, rows of unit length. The package is a translation of RunCCA; it has no anchors and no IntegrateData.
"""

from cca_py import l2_normalize, run_cca
from exchange import Task

DIMENSIONS = 30

if __name__ == "__main__":
    task = Task.from_arguments()
    first, second = task.linked()
    n = min(DIMENSIONS, first.shape[1] - 1)
    u, v = run_cca(first.T, second.T, num_cc=n, seed=task.seed).split()
    task.finish(l2_normalize(u), l2_normalize(v), dimensions=n)

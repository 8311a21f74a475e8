"""Imputed expression of genes in units of ATAC cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scmodal.model import ScModal
from scmodal.peakgene.aggregate import cell_chunks


def imputed_expression(
    model: ScModal, z: np.ndarray, genes: Sequence[str], units: sp.csr_matrix, target: str = "rna"
) -> np.ndarray:
    """Mean imputed expression of each unit's cells.

    Parameters
    ----------
    model
        Trained.
    z
        Latents, cells x dimensions.
    genes
        Features of `target`.
    units
        Units x cells, 0 or 1.
    target
        Modality that is imputed.

    Returns
    -------
    ndarray
        Genes x units, float32, log-normalised.
    """
    columns = model.imputed_features(target).index.get_indexer(pd.Index(genes))
    total = np.zeros((len(columns), units.shape[0]), np.float64)
    for cells, own in cell_chunks(units):
        # units average over cells already, and leave-the-locus-out must differ in the locus alone
        values = model.decode(z[cells], target, direct=True).log_normalised
        total += np.asarray(own @ values)[:, columns].T
    return (total / np.asarray(units.sum(axis=1)).ravel()).astype(np.float32)

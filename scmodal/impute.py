"""Imputation written to disk cell block by cell block, so that memory does not grow with the number of cells."""

from __future__ import annotations

from pathlib import Path

import anndata
import h5py
import numpy as np
from anndata import AnnData

from scmodal._version import __version__
from scmodal.contracts import InputError
from scmodal.inputs import modality_of
from scmodal.io import atomic_path
from scmodal.model import LATENT_KEY, ScModal

CHUNK = 4096
"""Cells imputed at a time."""


def impute_to_file(model: ScModal, source: str, target: str, adata: AnnData, path: str | Path) -> AnnData:
    """Predict features of `target` for prepared cells of `source` and write them as h5ad.

    Parameters
    ----------
    model
        A trained model.
    source, target
        Modalities.
    adata
        Prepared cells of `source`.
    path
        File to write: what :meth:`ScModal.impute` returns, float32, gzip-compressed.

    Returns
    -------
    What was written, without the two matrices.

    Raises
    ------
    InputError
        Unknown modality, cells of another one than `source`, no cells, or features that do not fit the model.
    """
    source, target = model.known_modality(source), model.known_modality(target)
    if source == target:
        raise InputError(f"imputation from {source} to itself: give two different modalities")
    given = modality_of(adata)
    if given != source:
        # features of the same names would be taken for the source's: gene activity is no expression
        raise InputError(f"the cells are of modality {given}, not {source}: give prepared {source} cells")
    if adata.n_obs == 0:
        raise InputError(f"there are no {source} cells to impute for: the prepared data set is empty")
    var = model.imputed_features(target)
    shape = (adata.n_obs, len(var))
    z = np.empty((adata.n_obs, model.preset.n_latent), np.float32)
    confidence = np.empty(adata.n_obs, np.float32)
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        blocks = {"chunks": (min(CHUNK, shape[0]), min(64, shape[1])), "compression": "gzip", "compression_opts": 1}
        x = file.create_dataset("X", shape, np.float32, **blocks)
        scaled = file.create_dataset("scaled", shape, np.float32, **blocks)
        start = 0
        for part in model.embed_chunks(adata, source, CHUNK):
            rows = slice(start, start + len(part))
            start += len(part)
            z[rows] = part
            values = model.decode(part, target)
            x[rows], scaled[rows], confidence[rows] = values.log_normalised, values.scaled, values.confidence
        for dataset in (x, scaled):
            dataset.attrs["encoding-type"] = "array"
            dataset.attrs["encoding-version"] = "0.2.0"
        obs = adata.obs.copy()
        obs["confidence"] = confidence
        frame = AnnData(
            obs=obs,
            var=var.assign(expected_r=model.expected_r(source, target)),
            obsm={LATENT_KEY: z},
            uns={"scmodal": {"modality": target, "from": source, "to": target, "scmodal_version": __version__}},
        )
        # everything but the two matrices, which are already where anndata expects them
        for key, value in (("obs", frame.obs), ("var", frame.var), ("obsm", frame.obsm), ("uns", frame.uns)):
            anndata.io.write_elem(file, key, dict(value) if key in {"obsm", "uns"} else value)
        anndata.io.write_elem(file, "layers", {})
        file.move("scaled", "layers/scaled")
        file.attrs["encoding-type"] = "anndata"
        file.attrs["encoding-version"] = "0.1.0"
    return frame

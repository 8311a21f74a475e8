"""The folder that an integration leaves behind."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from anndata import AnnData, concat
from mudata import MuData

from scmodal._version import __version__
from scmodal.counterpart import COLUMN
from scmodal.io import (
    PEAKS,
    atomic_path,
    copy_stored,
    is_on_disk,
    mudata_options,
    write_h5ad,
    write_h5mu,
    write_json,
    write_parquet,
)
from scmodal.model import LATENT_KEY, ScModal, software_versions
from scmodal.presets import pairs_of
from scmodal.redraw import REDRAWN
from scmodal.rows import row_chunks

FINAL_STEPS = 50
"""Steps at the end of training over which reported losses are averaged."""

LATENT_CELLS = ("latent.h5ad", f"{LATENT_KEY}.parquet")
"""What :func:`write_latent_cells` writes."""

ROW_GROUP = 100_000
"""Cells in a row group of the embedding's table."""


def integrated_data(model: ScModal, adatas: Sequence[AnnData]) -> MuData:
    """All modalities with their latents.

    Parameters
    ----------
    model
        Trained on `adatas`.
    adatas
        The prepared data sets, in chain order.

    Returns
    -------
    MuData; each modality with ``obsm["X_scmodal"]``, ``obsm["X_scmodal_redrawn"]`` (:mod:`scmodal.redraw`),
    ``obs["scmodal_counterpart_<other>"]`` (:mod:`scmodal.counterpart`), ``var["linked"]`` (has a link that was used)
    and ``var["used"]`` (is a column of the engine's input).
    ``uns["scmodal"]["modalities"]`` holds the chain order, ``["topology"]`` what of it was matched. What an earlier
    integration left in `adatas` is not taken over. Matrices are those of `adatas`, not copies; those that are
    still in their file are left out, and so are counts of peaks (``obsm["peaks"]``): they stay in the prepared file,
    for the latent is of gene activity.
    """
    modalities = {}
    for name, adata in zip(model.modalities, adatas):
        recipe = model.recipes[name]
        earlier = _earlier_results(adata)
        copy = AnnData(
            X=None if is_on_disk(adata.X) else adata.X,
            layers={key: layer for key, layer in adata.layers.items() if not is_on_disk(layer)},
            obs=_own_obs(adata),
            var=adata.var.copy(),
            obsm={key: value for key, value in adata.obsm.items() if key != PEAKS and key not in earlier},
            uns=_without_peaks(adata.uns),
        )
        copy.obsm[LATENT_KEY] = model.embed(modality=name)
        copy.obsm[REDRAWN] = model.redrawn[name]
        for other, values in model.counterparts[name].items():
            copy.obs[COLUMN + other] = values
        copy.var["linked"] = copy.var_names.isin(list(recipe.linked_features))
        copy.var["used"] = copy.var_names.isin(recipe.features)
        modalities[name] = copy
    with mudata_options(), warnings.catch_warnings():
        # a protein may be called like a gene: var_names are unique within a modality, which is all that is needed
        warnings.filterwarnings("ignore", "var_names are not unique")
        mdata = MuData(modalities)
    mdata.uns["scmodal"] = {
        "modalities": list(model.modalities),
        "topology": model.preset.topology,
        "preset": model.preset.name,
        "seed": model.seed,
        "scmodal_version": __version__,
    }
    return mdata


def _own_obs(adata: AnnData) -> pd.DataFrame:
    """The cells' columns without counterparts of an earlier integration, maybe with other modalities."""
    return adata.obs[[name for name in adata.obs.columns if not str(name).startswith(COLUMN)]].copy()


def _earlier_results(adata: AnnData) -> set[str]:
    """Keys of ``obsm`` that an earlier integration filled.

    ``X_emb`` is what others call their embeddings, too: it is ours where it is the earlier latent once more.
    """
    found = {LATENT_KEY, REDRAWN}
    if LATENT_KEY in adata.obsm and "X_emb" in adata.obsm:
        latent, other = (np.asarray(adata.obsm[key]) for key in (LATENT_KEY, "X_emb"))
        if np.array_equal(latent, other):
            found.add("X_emb")
    return found


def _without_peaks(uns: Mapping[str, Any]) -> dict[str, Any]:
    """The notes without the names of the peaks, which name columns that are not there."""
    own = uns.get("scmodal")
    notes = {key: value for key, value in own.items() if key != PEAKS} if isinstance(own, Mapping) else None
    return dict(uns) | ({} if notes is None else {"scmodal": notes})


def write_integrated(model: ScModal, adatas: Sequence[AnnData], path: Path) -> None:
    """Write :func:`integrated_data` with every matrix; those in a file go from there to here piece by piece."""
    with atomic_path(path) as temporary:
        write_h5mu(integrated_data(model, adatas), temporary)
        for name, adata in zip(model.modalities, adatas):
            copy_stored(adata, temporary, f"mod/{name}/")


def write_embedding(model: ScModal, adatas: Sequence[AnnData], path: Path) -> None:
    """Write the latents as a Parquet table: cell, modality, scmodal_0 ... (one row a cell and modality)."""
    columns = [f"scmodal_{i}" for i in range(model.preset.n_latent)]
    schema = pa.schema([("cell", pa.string()), ("modality", pa.string()), *((c, pa.float32()) for c in columns)])
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for name, adata in zip(model.modalities, adatas):
            for rows, z in row_chunks(model.embed(modality=name), ROW_GROUP):
                part = pd.DataFrame(z, columns=columns)
                part.insert(0, "cell", adata.obs_names[rows].to_numpy())
                part.insert(1, "modality", name)
                writer.write_table(pa.Table.from_pandas(part, schema, preserve_index=False))


def latent_cells(model: ScModal, adatas: Sequence[AnnData]) -> AnnData:
    """The cells of all modalities as one AnnData without features, as pipelines take the result of an integration.

    Parameters
    ----------
    model
        Trained on `adatas`.
    adatas
        The prepared data sets, in chain order.

    Returns
    -------
    AnnData with every column of ``obs``, ``obs["modality"]`` and the latents (cells x latent dimensions, float32) in
    ``obsm["X_emb"]``, the name that nf-core/scdownstream reads, and ``obsm["X_scmodal"]``. A cell name that several
    modalities have gets ``-<modality>`` behind it, in all of them.
    """
    parts = []
    counts = pd.Series(np.concatenate([adata.obs_names.to_numpy() for adata in adatas])).value_counts()
    shared = set(counts.index[counts > 1])
    for name, adata in zip(model.modalities, adatas):
        obs = _own_obs(adata)
        obs.index = pd.Index([f"{cell}-{name}" if cell in shared else cell for cell in obs.index])
        obs["modality"] = name
        parts.append(AnnData(obs=obs, obsm={LATENT_KEY: np.asarray(model.embed(modality=name))}))
    cells = concat(parts, join="outer")
    cells.obs["modality"] = pd.Categorical(cells.obs["modality"], list(model.modalities))
    cells.obsm["X_emb"] = cells.obsm[LATENT_KEY]
    return cells


def write_latent_cells(model: ScModal, adatas: Sequence[AnnData], folder: Path) -> None:
    """Write :func:`latent_cells` to ``latent.h5ad``, and its latents by cell name to ``X_scmodal.parquet``.

    The table's index is the cell name; its file name is the key under which nf-core/scdownstream puts it into ``obsm``.
    """
    cells = latent_cells(model, adatas)
    write_h5ad(cells, folder / LATENT_CELLS[0])
    columns = [f"scmodal_{i}" for i in range(cells.obsm[LATENT_KEY].shape[1])]
    with atomic_path(folder / LATENT_CELLS[1]) as temporary:
        pd.DataFrame(cells.obsm[LATENT_KEY], index=cells.obs_names, columns=columns).to_parquet(temporary)


def links_in_use(model: ScModal) -> int:
    """Links that training used: of features that vary, and of those that the preset takes."""
    # each link is a column of both data sets of its pair
    blocks = [block for recipe in model.recipes.values() for block in recipe.blocks if block.linked]
    return sum(len(block.features) for block in blocks) // 2


def training_summary(model: ScModal) -> dict[str, Any]:
    """What training did, in numbers (``metrics.json`` of an integration)."""
    from scmodal.step import HISTORY_COLUMNS
    from scmodal.training import FULL_MIXING

    assert model.history is not None
    final = model.history.drop(columns="step").tail(FINAL_STEPS).mean()
    n_pairs = len(pairs_of(model.preset.topology, len(model.modalities)))
    return {
        **model.training,
        "preset": model.preset.name,
        "seed": model.seed,
        "n_links": links_in_use(model),
        "final_losses": {
            name.removeprefix("loss_"): float(final[name]) for name in HISTORY_COLUMNS if name.startswith("loss_")
        },
        "anchors_per_batch": float(model.history["n_anchors"].mean()),
        "steps_without_anchors": float((model.history["n_anchors"] == 0).mean()),
        "discriminator_mixing": float(final["loss_discriminator"] / (FULL_MIXING * n_pairs)),
        "messages": model.messages,
        "versions": software_versions(),
    }


def write_run(model: ScModal, adatas: Sequence[AnnData], folder: Path) -> None:
    """Write ``integrated.h5mu``, ``embedding.parquet``, ``model/``, ``history.parquet`` and ``metrics.json``."""
    assert model.history is not None
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "model")
    write_parquet(model.history, folder / "history.parquet")
    write_embedding(model, adatas, folder / "embedding.parquet")
    write_integrated(model, adatas, folder / "integrated.h5mu")
    write_json(training_summary(model), folder / "metrics.json")

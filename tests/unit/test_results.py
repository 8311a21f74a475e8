"""What of an earlier integration's results stays in a new one: nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from scmodal.results import integrated_data, latent_cells


def model() -> Any:
    """As much of a trained model of three cells a modality as results are made of."""
    names = ["rna", "protein"]
    return SimpleNamespace(
        modalities=names,
        recipes={name: SimpleNamespace(linked_features={f"{name}0"}, features=[f"{name}0"]) for name in names},
        embed=lambda modality: np.ones((3, 2), np.float32),
        redrawn=dict.fromkeys(names, np.full((3, 2), 2.0, np.float32)),
        counterparts={"rna": {"protein": np.ones(3, np.float32)}, "protein": {"rna": np.ones(3, np.float32)}},
        preset=SimpleNamespace(name="default", topology="star", n_latent=2),
        seed=0,
    )


def prepared(name: str, x_emb: float) -> AnnData:
    obs = pd.DataFrame({"kind": list("aab")}, index=[f"{name}_{i}" for i in range(3)])
    for other in ("atac", "cytometry", "rna"):
        obs[f"scmodal_counterpart_{other}"] = 0.0
    adata = AnnData(np.ones((3, 2), np.float32), obs=obs, var=pd.DataFrame(index=[f"{name}0", f"{name}1"]))
    adata.obsm.update({"X_scmodal": np.zeros((3, 2)), "X_emb": np.full((3, 2), x_emb), "X_pca": np.zeros((3, 2))})
    adata.uns["scmodal"] = {"modality": name}
    return adata


@pytest.mark.parametrize(("x_emb", "stays"), [(0.0, False), (5.0, True)])
def test_an_earlier_integration_leaves_nothing(x_emb: float, stays: bool) -> None:
    data = [prepared(name, x_emb) for name in ("rna", "protein")]
    made = integrated_data(model(), data)
    assert list(made.mod["rna"].obs.columns) == ["kind", "scmodal_counterpart_protein"]
    assert list(made.mod["protein"].obs.columns) == ["kind", "scmodal_counterpart_rna"]
    assert (made.mod["protein"].obs["scmodal_counterpart_rna"] == 1).all()
    for adata in made.mod.values():
        assert (adata.obsm["X_scmodal"] == 1).all()
        assert (adata.obsm["X_scmodal_redrawn"] == 2).all()
        assert "X_pca" in adata.obsm
        assert ("X_emb" in adata.obsm) is stays  # another program's stays
    assert made.uns["scmodal"]["topology"] == "star"
    assert "scmodal_counterpart_atac" in data[0].obs  # what was given is left as it was
    assert list(latent_cells(model(), data).obs.columns) == ["kind", "modality"]

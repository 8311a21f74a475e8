"""Mixing of modalities and conservation of labels as the field reports them, by scib-metrics (extra ``bench``).

Luecken *et al.* 2022 (doi:10.1038/s41592-021-01336-8) defined the scores; 1 is best in all of them. Mixing: iLISI, the
effective number of modalities among a cell's 90 neighbours; kBET, the share of neighbourhoods within a label whose
composition is that of the label. Conservation: connectivity of each label's neighbour graph; silhouette width of labels
(ASW, scaled to 0 to 1); NMI and ARI of labels with as many k-means clusters.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from scmodal.contracts import InputError

CELLS = 20_000
"""Cells that are scored; of more, as many are drawn, always the same."""

_NEIGHBOURS = {"ilisi": 90, "kbet": 50, "graph_connectivity": 15}  # as scib-metrics' own benchmark takes them
_LEAST_CELLS = 3 * _NEIGHBOURS["ilisi"]


def check_installed() -> None:
    """Make sure that scib-metrics is there.

    Raises
    ------
    InputError
        It is not.
    """
    if importlib.util.find_spec("scib_metrics") is None:
        raise InputError(
            "--scib needs the package scib-metrics, which is not installed: pip install 'scmodal[bench]', or leave "
            "it out"
        )


def scib_scores(latents: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Scores of scib-metrics over the cells of all modalities together.

    Parameters
    ----------
    latents
        Latent of each modality, cells x d.
    labels
        Labels of a modality's cells (text, ``""`` for none); modalities without are left out of it.

    Returns
    -------
    dict
        `n_cells`, `ilisi`; where all modalities have labels, over the cells that have one, `n_labelled`, `kbet`,
        `graph_connectivity`, `silhouette_label`, `nmi`, `ari`.

    Raises
    ------
    InputError
        scib-metrics is not installed, or there are fewer than 270 cells.
    """
    check_installed()
    import scib_metrics
    from scib_metrics.nearest_neighbors import NeighborsResults
    from sklearn.neighbors import NearestNeighbors

    z = np.concatenate([np.asarray(values, np.float32) for values in latents.values()])
    modality = np.repeat(np.arange(len(latents)), [len(values) for values in latents.values()])
    label = np.concatenate([labels.get(name, np.full(len(values), "")) for name, values in latents.items()]).astype(str)
    if len(z) < _LEAST_CELLS:
        raise InputError(f"--scib needs {_LEAST_CELLS} cells or more, for neighbourhoods of 90; there are {len(z)}")
    chosen = np.sort(np.random.default_rng(0).permutation(len(z))[:CELLS])
    z, modality, label = z[chosen], modality[chosen], label[chosen]

    def near(values: np.ndarray, score: str) -> Any:
        search = NearestNeighbors(n_neighbors=_NEIGHBOURS[score], algorithm="brute").fit(values)
        distances, indices = search.kneighbors(values)  # the cell itself is the first, as scib-metrics expects
        return NeighborsResults(indices=indices, distances=distances)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: dict[str, Any] = {
            "n_cells": len(z),
            "ilisi": float(scib_metrics.ilisi_knn(near(z, "ilisi"), modality)),
        }
        labelled = label != ""
        if set(labels) != set(latents) or labelled.sum() < _LEAST_CELLS or len(set(label[labelled])) < 2:
            return found
        z, modality, label = z[labelled], modality[labelled], label[labelled]
        clusters = scib_metrics.nmi_ari_cluster_labels_kmeans(z, label)
        return found | {
            "n_labelled": len(z),
            "kbet": float(scib_metrics.kbet_per_label(near(z, "kbet"), modality, label)),
            "graph_connectivity": float(scib_metrics.graph_connectivity(near(z, "graph_connectivity"), label)),
            "silhouette_label": float(scib_metrics.silhouette_label(z, label)),
            "nmi": float(clusters["nmi"]),
            "ari": float(clusters["ari"]),
        }

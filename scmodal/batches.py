"""Batches or donors within one data set, which its encoder and generator are told of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from scmodal.contracts import InputError
from scmodal.io import as_text, some


@dataclass
class Batches:
    """The batches of the cells that a model was trained on.

    Attributes
    ----------
    key
        Column of ``obs``.
    names
        The batches.
    shares
        Share of the training cells in each batch, float32.
    """

    key: str
    names: list[str]
    shares: NDArray[np.float32]

    @classmethod
    def of(cls, adata: AnnData) -> Batches | None:
        """Batches of a prepared data set; None where it has no ``batch_key``, or all cells are of one batch.

        Raises
        ------
        InputError
            More than half as many batches as cells: the column is something else.
        """
        key = str(adata.uns["scmodal"].get("batch_key", ""))
        if not key:
            return None
        counts = adata.obs[key].astype(str).value_counts()
        if len(counts) < 2:
            return None
        if len(counts) > adata.n_obs / 2:
            modality = adata.uns["scmodal"]["modality"]
            raise InputError(
                f"batch_key {key!r} tells {len(counts):,} batches among {adata.n_obs:,} {modality} cells; name the "
                "column that holds the batch or donor"
            )
        names = sorted(counts.index)
        return cls(key, names, (counts[names].to_numpy() / adata.n_obs).astype(np.float32))

    def rows(self, adata: AnnData) -> NDArray[np.float32]:
        """What the networks are told of each cell: cells x batches, float32.

        One-hot for a cell of a known batch. A cell of another batch, or of a data set without the column, is treated as
        one of the average batch.
        """
        told = np.tile(self.shares, (adata.n_obs, 1))
        if self.key in adata.obs:
            place = {name: i for i, name in enumerate(self.names)}
            codes = np.array([place.get(as_text(value), -1) for value in adata.obs[self.key]])
            told[codes >= 0] = np.eye(len(self.names), dtype=np.float32)[codes[codes >= 0]]
        return told

    def unknown(self, adata: AnnData) -> str:
        """A sentence on cells that :meth:`rows` takes for cells of the average batch; empty where there are none."""
        if self.key not in adata.obs:
            return (
                f"The cells have no column {self.key!r} that tells their batch, as the model's cells have: they are "
                "taken for cells of the average batch."
            )
        found = pd.Series([as_text(value) for value in adata.obs[self.key]]).value_counts()
        other = found.drop(self.names, errors="ignore")
        if other.empty:
            return ""
        return (
            f"{int(other.sum()):,} cells are of batches that the model was not trained on ({some(list(other.index))} "
            f"in {self.key!r}; known: {some(self.names)}): they are taken for cells of the average batch."
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"key": self.key, "names": self.names, "shares": self.shares.tolist()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Batches:
        """Back from :meth:`to_dict`."""
        return cls(data["key"], list(data["names"]), np.asarray(data["shares"], np.float32))

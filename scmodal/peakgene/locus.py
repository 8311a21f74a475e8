"""Leave the locus out: expression imputed from cells whose input does not show the locus under test.

A gene's imputed expression depends, through the encoder, on the activity of the gene itself and of its neighbours, and
so on the very peaks that are tested. Here these columns of the encoder's input stand at their training mean, which
tells nothing. The encoder's first layer is linear, so that for each gene only what these few columns add to the hidden
layer is taken away again, and only the gene's own output is computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scmodal.contracts import InputError
from scmodal.inputs import blanked
from scmodal.peakgene.aggregate import CELLS_AT_A_TIME, cell_chunks
from scmodal.rows import CountView

if TYPE_CHECKING:
    from anndata import AnnData
    from torch import Tensor

    from scmodal.model import ScModal
    from scmodal.networks import TwoLayer


def locus_columns(
    genes: pd.DataFrame, columns: pd.DataFrame, window: int, upstream: int = 0, around: int = 0
) -> sp.csr_matrix:
    """Columns of the encoder's input that show the locus of a gene.

    Parameters
    ----------
    genes
        `chrom` and `tss` of the tested genes.
    columns
        `chrom`, `start`, `end`, `strand` of every input column; columns without a place (chrom ``""``) are never
        masked.
    window
        Base pairs around the start of transcription in which peaks are tested.
    upstream
        How far before its gene a gene-activity column counts peaks.
    around
        How much further it does so, on both sides.

    Returns
    -------
    csr_matrix
        Genes x columns, True where the region that the column counts peaks in overlaps the window.
    """
    plus = columns["strand"].to_numpy() != "-"
    start = columns["start"].to_numpy() - np.where(plus, upstream, 0) - around
    end = columns["end"].to_numpy() + np.where(plus, 0, upstream) + around
    tss = genes["tss"].to_numpy()
    rows, found = [], []
    of_columns = columns.groupby("chrom").indices
    for chrom, own in genes.groupby("chrom").indices.items():
        near = of_columns.get(chrom)
        if near is None or chrom == "":
            continue
        hit = (start[near] <= tss[own, None] + window) & (end[near] > tss[own, None] - window)
        at_gene, at_column = np.nonzero(hit)
        rows.append(own[at_gene])
        found.append(near[at_column])
    row = np.concatenate(rows) if rows else np.zeros(0, np.intp)
    column = np.concatenate(found) if found else np.zeros(0, np.intp)
    mask = sp.csr_matrix((np.ones(len(row), bool), (row, column)), shape=(len(genes), len(columns)))
    mask.sort_indices()
    return mask


def column_places(model: ScModal, adata: AnnData, modality: str = "atac") -> pd.DataFrame:
    """Place of the gene of every input column, as the prepared data have it.

    Raises
    ------
    InputError
        The encoder's input is not gene activity with known places.
    """
    columns = model.recipes[modality].columns
    encoder = model.networks.encoders[model.modalities.index(modality)]
    wanted = ["chrom", "start", "end", "strand"]
    missing = [name for name in wanted if name not in adata.var]
    if missing:
        raise InputError(
            f"leave-the-locus-out needs the places of the genes, but var of the {modality} data lacks "
            f"{', '.join(missing)}: prepare them with `scmodal preprocess --modality atac --genes`"
        )
    first = getattr(encoder, "first", None)
    if first is None or first.in_features != len(columns):
        raise InputError(
            f"leave-the-locus-out needs a model whose {modality} encoder reads gene activity column by column; this "
            "one reads something else: leave out --leave-locus-out, or integrate with gene activity as input"
        )
    places = adata.var[wanted].reindex(columns)
    out = pd.DataFrame(
        {
            "chrom": places["chrom"].astype(object).where(places["chrom"].notna(), "").astype(str).to_numpy(),
            "start": places["start"].fillna(0).to_numpy(np.int64),
            "end": places["end"].fillna(0).to_numpy(np.int64),
            "strand": places["strand"].astype(object).where(places["strand"].notna(), ".").astype(str).to_numpy(),
        }
    )
    return out


def expression_without_locus(
    model: ScModal,
    adata: AnnData,
    genes: list[str],
    masks: sp.csr_matrix,
    units: sp.csr_matrix,
    source: str = "atac",
    target: str = "rna",
) -> np.ndarray:
    """Unit means of imputed expression, each gene imputed with its own input columns masked.

    Parameters
    ----------
    model
        Trained.
    adata
        Prepared cells of `source`.
    genes
        Features of `target`.
    masks
        Genes x input columns of the encoder, True where a column is set to its training mean (0 when scaled).
    units
        Units x cells, 0 or 1.
    source, target
        Modalities.

    Returns
    -------
    ndarray
        Genes x units, float32, log-normalised.
    """
    import torch

    networks = model.networks
    encoder = cast("TwoLayer", networks.encoders[model.modalities.index(source)])
    generator = cast("TwoLayer", networks.generators[model.modalities.index(target)])
    recipe = model.recipes[source]
    device = next(networks.parameters()).device
    told = model.batches.get(source)
    told_rows = None if told is None else told.rows(adata)
    target_batches = model.batches.get(target)
    view, absent = recipe.view(adata)
    readout, offset = _readout(model, generator, target, genes)

    into = encoder.first.weight.T.contiguous()
    onward = encoder.second.weight.T.contiguous()
    back = generator.first.weight.T.contiguous()
    start: Tensor = generator.first.bias
    if target_batches is not None and generator.batch is not None:
        start = start + torch.as_tensor(target_batches.shares, device=device) @ generator.batch
    total = np.zeros((len(genes), units.shape[0]), np.float64)
    with torch.inference_mode():
        for cells, own_units in cell_chunks(units, CELLS_AT_A_TIME):
            own = CountView(view.matrix, rows=cells, columns=view.columns)
            part = next(blanked(own, absent, len(cells)))
            scaled = recipe.scale(part)
            scaled[:, absent] = 0.0
            x = torch.as_tensor(scaled, device=device)
            hidden = torch.addmm(encoder.first.bias, x, into)
            if told_rows is not None and encoder.batch is not None:
                hidden = hidden + torch.as_tensor(told_rows[cells], device=device) @ encoder.batch
            values = torch.empty((len(genes), len(cells)), device=device)
            for i in range(len(genes)):
                columns = torch.as_tensor(masks.indices[masks.indptr[i] : masks.indptr[i + 1]], device=device).long()
                masked = torch.addmm(hidden, x[:, columns], into[columns], alpha=-1.0) if len(columns) else hidden
                z = torch.addmm(encoder.second.bias, masked.relu(), onward)
                decoded = torch.addmm(start, z, back).relu_()
                values[i] = decoded @ readout[i] + offset[i]
            total += (own_units @ values.cpu().numpy().T).T
    return (total / np.asarray(units.sum(axis=1)).ravel()).astype(np.float32)


def _readout(model: ScModal, generator: TwoLayer, target: str, genes: list[str]) -> tuple[Tensor, Tensor]:
    """The generator's last layer and the way back to log-normalised units as one vector and one number a gene."""
    import torch

    recipe = model.recipes[target]
    weight, bias = generator.second.weight, generator.second.bias
    std = torch.as_tensor(recipe.std, device=weight.device)
    mean = torch.as_tensor(recipe.mean, device=weight.device)
    places: dict[str, list[int]] = {}
    for column, name in enumerate(recipe.columns):
        places.setdefault(name, []).append(column)
    vectors, offsets = [], []
    for gene in genes:
        own = torch.as_tensor(places[gene], device=weight.device)
        vectors.append((weight[own] * std[own, None]).mean(0))
        offsets.append((bias[own] * std[own] + mean[own]).mean())
    return torch.stack(vectors), torch.stack(offsets)

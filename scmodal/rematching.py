"""Cells matched anew during training, by what the networks have learnt.

Pairs that the links give before training are rough (:mod:`scmodal.matching`). After some steps the latents, in which
networks have brought the data sets together by all that they hold, give better ones: which of the own components'
directions vary together over these pairs is found anew, and anchors are sought by the coordinates that follow. Not by
the latents themselves: these agree with whatever they have been pulled to, right or wrong, while directions are few and
common to all cells.
"""

from __future__ import annotations

import numpy as np
import torch

from scmodal.matching import coordinate_blocks, match_again
from scmodal.presets import Preset
from scmodal.step import TrainingData, TrainingState


def rematching_due(state: TrainingState, data: TrainingData, preset: Preset) -> bool:
    """Whether cells are to be matched anew before the coming step."""
    return bool(data.sides) and state.step > 0 and state.step % preset.rematching_every == 0


def rematch(state: TrainingState, data: TrainingData) -> None:
    """Find the directions of every pair by the latents as they are now, and use them from here on."""
    state.directions = [
        match_again(
            sides,
            (_latents(state, data, i, sides[0].chosen), _latents(state, data, j, sides[1].chosen)),
            data.linked[0][0].device,
        )
        for (i, j), sides in zip(data.pairs, data.sides)
    ]
    take_coordinates(state, data)


def take_coordinates(state: TrainingState, data: TrainingData) -> None:
    """Put the coordinates by the state's directions, if it has any, in the place of those before.

    In place: a recorded step (:mod:`scmodal.capture`) reads them where they have been.
    """
    for sides, directions, linked in zip(data.sides, state.directions, data.linked):
        for side, of, place in zip(sides, directions.both, linked):
            for rows, found in coordinate_blocks(side, of, directions.share):
                place[rows].copy_(torch.from_numpy(found))


def _latents(state: TrainingState, data: TrainingData, k: int, cells: np.ndarray) -> np.ndarray:
    """Latents of some cells of data set `k` (cells x n_latent), all input columns seen."""
    rows = torch.as_tensor(cells, device=data.linked[0][0].device)
    told = data.batches[k]
    with torch.no_grad():
        z = state.networks.encoders[k](
            data.x[k].index_select(0, rows), None if told is None else told.index_select(0, rows)
        )
    return np.asarray(z.cpu().numpy())

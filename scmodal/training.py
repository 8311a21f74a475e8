"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from scmodal.anchors import unit_rows
from scmodal.capture import make_step
from scmodal.contracts import DataError
from scmodal.inputs import EngineInput
from scmodal.networks import Networks
from scmodal.presets import Preset, pairs_of
from scmodal.rows import LazyRows
from scmodal.step import HISTORY_COLUMNS, TrainingData, TrainingState

CHECK_EVERY = 50
"""Steps between looks at the recorded losses; looking costs a wait for the device, so not every step."""

Progress = Callable[[int, int, dict[str, float]], None]
"""Called with (steps done, steps in all, latest losses)."""


class RowsOnDevice:
    """Rows made when they are asked for, with what :func:`scmodal.step.draw_batch` uses of a tensor."""

    def __init__(self, rows: LazyRows, device: torch.device) -> None:
        self.rows = rows
        self.device = device

    def __len__(self) -> int:
        return len(self.rows)

    def index_select(self, dim: int, index: torch.Tensor) -> torch.Tensor:
        """Rows at some positions (`dim` is 0), on the device."""
        return torch.from_numpy(self.rows.take(index.cpu().numpy())).to(self.device)


def make_data(inputs: Sequence[EngineInput], preset: Preset, device: torch.device) -> TrainingData:
    """Put engine inputs on the device and settle the batch size of each data set.

    A data set with fewer cells than the batch size gives as many as it has, and its share of nearest neighbours
    shrinks alike, so that an anchor keeps its meaning.
    """
    batch_sizes, n_neighbours, messages = [], [], []
    for item in inputs:
        size = min(preset.batch_size, len(item.x))
        k = min(preset.n_neighbours, size)
        if size < preset.batch_size:
            k = max(1, round(preset.n_neighbours * size / preset.batch_size))
            messages.append(
                f"{item.modality} has {len(item.x)} cells, fewer than the batch size of {preset.batch_size}: its "
                f"batches hold {size} cells and its anchors are sought among {k} instead of {preset.n_neighbours} "
                "neighbours."
            )
        batch_sizes.append(size)
        n_neighbours.append(k)
    pairs = pairs_of(preset.topology, len(inputs))
    x: list[Any] = [
        RowsOnDevice(item.x, device) if isinstance(item.x, LazyRows) else torch.as_tensor(item.x, device=device)
        for item in inputs
    ]
    return TrainingData(
        x=x,
        pairs=pairs,
        linked=[
            (unit_rows(inputs[i].linked[k]).to(device), unit_rows(inputs[j].linked[k]).to(device))
            for k, (i, j) in enumerate(pairs)
        ],
        batch_sizes=batch_sizes,
        n_neighbours=n_neighbours,
        batches=[None if item.told is None else torch.as_tensor(item.told, device=device) for item in inputs],
        composition=[
            None if item.batches is None else torch.as_tensor(item.batches.shares, device=device) for item in inputs
        ],
        messages=messages,
    )


def make_state(
    widths: Sequence[int], preset: Preset, seed: int, device: torch.device, n_batches: Sequence[int] | None = None
) -> TrainingState:
    """Networks at their start (see :class:`Networks`), both optimisers and the random stream of a seed."""
    networks = Networks(widths, preset, seed, n_batches).to(device)

    def adam(parameters: Iterable[nn.Parameter]) -> torch.optim.Adam:
        return torch.optim.Adam(
            parameters,
            # a recorded step reads its learning rate from the device
            lr=torch.tensor(preset.learning_rate, device=device) if device.type == "cuda" else preset.learning_rate,
            betas=(preset.beta1, preset.beta2),
            weight_decay=preset.weight_decay,
            fused=device.type in {"cpu", "cuda"},
            capturable=device.type == "cuda",
        )

    return TrainingState(
        networks=networks,
        optimiser=adam([*networks.encoders.parameters(), *networks.generators.parameters()]),
        discriminator_optimiser=adam(networks.discriminators.parameters()),
        generator=torch.Generator(device).manual_seed(seed),
    )


def train(
    state: TrainingState, data: TrainingData, preset: Preset, progress: Progress | None = None
) -> tuple[np.ndarray, float]:
    """Train to the preset's number of steps.

    Returns
    -------
    The history (steps x len(HISTORY_COLUMNS), float32) and the seconds spent.

    Raises
    ------
    DataError
        A loss is not finite, or most batches hold no anchor: why, and what to try.
    """
    history = torch.zeros((preset.steps, len(HISTORY_COLUMNS)), device=data.x[0].device)
    start = time.perf_counter()
    advance = make_step(state, data, preset)
    while state.step < preset.steps:
        advance(history[state.step])
        if state.step % CHECK_EVERY == 0 or state.step == preset.steps:
            recent = history[max(0, state.step - CHECK_EVERY) : state.step].cpu().numpy()
            check_health(recent, state.step)
            if progress is not None:
                progress(state.step, preset.steps, dict(zip(HISTORY_COLUMNS, recent.mean(0).tolist())))
    return history.cpu().numpy(), time.perf_counter() - start


def check_health(recent: np.ndarray, step: int) -> None:
    """Stop a run that can no longer become good.

    Parameters
    ----------
    recent
        The history's latest rows.
    step
        Steps done, for the message.

    Raises
    ------
    DataError
        See :func:`train`.
    """
    if not np.isfinite(recent).all():
        bad = [name for i, name in enumerate(HISTORY_COLUMNS) if not np.isfinite(recent[:, i]).all()]
        raise DataError(
            f"training diverged before step {step}: {', '.join(bad)} is no longer finite. Try a lower learning rate "
            "(--set learning_rate=0.0003), and look for extreme values in the input."
        )
    empty = float((recent[:, HISTORY_COLUMNS.index("n_anchors")] == 0).mean())
    if len(recent) >= CHECK_EVERY and empty > 0.5:
        raise DataError(
            f"{empty:.0%} of the batches before step {step} hold not a single anchor: no cells of the two data sets "
            "are mutual neighbours on the linked features. Check the links (do the pairs really vary together?), add "
            "links, or raise --set n_neighbours or --batch-size."
        )


FULL_MIXING = 2.0 * math.log(2.0)
"""Discriminator loss of a pair at which it cannot tell the data sets apart."""

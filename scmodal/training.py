"""The training loop."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from scmodal.anchors import unit_rows
from scmodal.capture import make_step
from scmodal.checkpoint import Checkpoint, Interrupted, Keeper, StopRequest, restore, stop_request
from scmodal.contracts import DataError
from scmodal.counterpart import left_alone
from scmodal.inputs import EngineInput
from scmodal.matching import Sides
from scmodal.networks import Networks
from scmodal.presets import Preset, pairs_of
from scmodal.rematching import rematch, rematching_due, take_coordinates
from scmodal.rows import LazyRows
from scmodal.step import HISTORY_COLUMNS, TrainingData, TrainingState

CHECK_EVERY = 50
"""Steps between looks at the recorded losses; looking costs a wait for the device, so not every step."""

FULL_MIXING = 2.0 * math.log(2.0)
"""Discriminator loss of a pair at which it cannot tell the data sets apart."""

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
    counted = [_counted(inputs[i], inputs[j], pair, preset, device, messages) for pair, (i, j) in enumerate(pairs)]
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
        counted=counted,
        messages=messages,
        sides=[
            _with_counterpart((inputs[i].sides[k], inputs[j].sides[k]), counted[k])
            for k, (i, j) in enumerate(pairs)
            if k in inputs[i].sides
        ],
    )


def _counted(
    a: EngineInput, b: EngineInput, pair: int, preset: Preset, device: torch.device, messages: list[str]
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """0 for the cells of a pair's two data sets that the other has no counterpart of, else 1; None where all have.

    Cells with 0 are told in `messages`.
    """
    if pair not in a.counterpart:
        return None
    alone = [left_alone(item.counterpart[pair], preset.least_counterpart) for item in (a, b)]
    if not np.concatenate(alone).any():
        return None
    for item, other, some in zip((a, b), (b, a), alone):
        if some.any():
            messages.append(
                f"{some.sum():,} of the {len(some):,} {item.modality} cells have no counterpart, or far too few, in "
                f"{other.modality}: they are not made to look like its cells."
            )
    left, right = (torch.as_tensor(~some, dtype=torch.float32, device=device) for some in alone)
    return left, right


def _with_counterpart(sides: Sides, counted: tuple[torch.Tensor, torch.Tensor] | None) -> Sides:
    """Both sides with pairs sought among cells that count alone: the others have no partner to be found."""
    if counted is None:
        return sides
    kept = [side.chosen[of.cpu().numpy()[side.chosen] > 0] for side, of in zip(sides, counted)]
    return replace(sides[0], chosen=kept[0]), replace(sides[1], chosen=kept[1])


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
    state: TrainingState,
    data: TrainingData,
    preset: Preset,
    progress: Progress | None = None,
    keeper: Keeper | None = None,
    start_from: Checkpoint | None = None,
) -> tuple[np.ndarray, float]:
    """Train to the preset's number of steps, or until it over-trains.

    Parameters
    ----------
    state
        As :func:`make_state` gives it.
    data, preset
        What to train on, and how.
    progress
        Called now and then.
    keeper
        Writes checkpoints; with one, a stop signal ends training after the running step, with a checkpoint.
    start_from
        Checkpoint to go on from, which fits (:meth:`~scmodal.checkpoint.Keeper.find`).

    Returns
    -------
    The history (steps done x len(HISTORY_COLUMNS), float32) and the seconds spent.

    Raises
    ------
    DataError
        Training can no longer become good, see :func:`check_health`: why, and what to try.
    Interrupted
        A stop signal came, and there is a keeper.
    """
    history = torch.zeros((preset.steps, len(HISTORY_COLUMNS)), device=data.x[0].device)
    seen = np.zeros(history.shape, np.float32)  # the history's copy on the host, as far as it was looked at
    start = time.perf_counter()
    if start_from is not None:
        restore(start_from, state)
        take_coordinates(state, data)
        history[: state.step] = start_from.history.to(history.device)
        seen[: state.step] = start_from.history.numpy()
        start -= start_from.seconds
    advance = make_step(state, data, preset)
    with stop_request() if keeper is not None else contextlib.nullcontext(StopRequest()) as request:
        while state.step < preset.steps and not overtrained(seen[: state.step], preset):
            if rematching_due(state, data, preset):
                rematch(state, data)
            advance(history[state.step])
            if keeper is not None and request.signal is not None:
                saved = keeper.save(state, history, time.perf_counter() - start)
                raise Interrupted(
                    request.signal, _stopped(request.signal.name, state.step, preset.steps, keeper, saved)
                )
            if state.step % CHECK_EVERY == 0 or state.step == preset.steps:
                recent = slice(max(0, state.step - CHECK_EVERY), state.step)
                seen[recent] = history[recent].cpu().numpy()
                check_health(seen[: state.step], preset)
                if progress is not None:
                    progress(state.step, preset.steps, dict(zip(HISTORY_COLUMNS, seen[recent].mean(0).tolist())))
            if keeper is not None and keeper.due():
                keeper.save(state, history, time.perf_counter() - start)
    seconds = time.perf_counter() - start
    if keeper is not None and keeper.in_use and not (start_from is not None and start_from.step == state.step):
        # what took long is not lost to a disk that is too full for the results
        keeper.save(state, history, seconds)
    return history[: state.step].cpu().numpy(), seconds


UNMIXING_STEPS = 200
"""Steps over which mixing is averaged before it is compared."""


def overtrained(history: np.ndarray, preset: Preset) -> bool:
    """Whether the data sets have come apart again, which is how a method that sees small data too often shows it.

    Small data are learnt by heart: reconstruction of new cells still improves, but each data set's cells get places
    of their own, the discriminator learns them, and true partners move away from each other. So the mean loss of the
    discriminators over the latest :data:`UNMIXING_STEPS` is compared with the best such mean so far.

    Parameters
    ----------
    history
        The history so far (steps done x len(HISTORY_COLUMNS)); judged every :data:`CHECK_EVERY` steps.
    preset
        ``unmixing``, the fall that ends training, as a share of the best; 0 never ends it.
    """
    step = len(history)
    if preset.unmixing == 0 or step < 2 * UNMIXING_STEPS or step % CHECK_EVERY:
        return False
    loss = history[:, HISTORY_COLUMNS.index("loss_discriminator")].astype(np.float64)
    chunks = loss.reshape(-1, CHECK_EVERY).mean(1)
    width = UNMIXING_STEPS // CHECK_EVERY
    means = np.convolve(chunks, np.full(width, 1 / width), mode="valid")
    return bool(means[-1] < (1 - preset.unmixing) * means.max())


def _stopped(name: str, step: int, steps: int, keeper: Keeper, saved: bool) -> str:
    where = f"the checkpoint is {keeper.path}; --resume goes on from it" if saved else "without a checkpoint"
    return f"Stopped by {name} after step {step} of {steps}, {where}."


EXPLOSION = 10.0
"""Training has exploded when reconstruction is this many times worse than it has been at its best."""
WON = 0.02
"""A discriminator has won when its loss stays under this share of :data:`FULL_MIXING`."""
COLLAPSED = 1e-3
"""Standard deviation of a latent dimension under which all cells are at one point."""


def check_health(history: np.ndarray, preset: Preset) -> None:
    """Stop a run that can no longer become good.

    Parameters
    ----------
    history
        The history so far (steps done x len(HISTORY_COLUMNS)); the latest :data:`CHECK_EVERY` rows are judged.
    preset
        Terms of weight 0 are not judged.

    Raises
    ------
    DataError
        A loss is not finite or has exploded, most batches hold no anchor, a discriminator tells every cell's data set,
        or all cells of a data set are at one point: why, and what to try.
    """
    step, recent = len(history), history[-CHECK_EVERY:]
    if not np.isfinite(recent).all():
        bad = [name for i, name in enumerate(HISTORY_COLUMNS) if not np.isfinite(recent[:, i]).all()]
        raise DataError(
            f"training diverged before step {step}: {', '.join(bad)} is no longer finite. Try a lower learning rate "
            "(--set learning_rate=0.0003), and look for extreme values in the input."
        )
    if len(recent) < CHECK_EVERY:
        return
    columns = {name: recent[:, i] for i, name in enumerate(HISTORY_COLUMNS)}
    empty = float((columns["n_anchors"] == 0).mean())
    if empty > 0.5:
        raise DataError(
            f"{empty:.0%} of the batches before step {step} hold not a single anchor: no cells of the two data sets "
            "are mutual neighbours on the linked features. Check the links (do the pairs really vary together?), add "
            "links, or raise --set n_neighbours or --batch-size."
        )
    n_whole = step // CHECK_EVERY * CHECK_EVERY
    reconstruction = history[:n_whole, HISTORY_COLUMNS.index("loss_autoencoder")]
    best = float(reconstruction.reshape(-1, CHECK_EVERY).mean(1).min())
    now = float(columns["loss_autoencoder"].mean())
    if preset.weight_autoencoder > 0 and now > EXPLOSION * best:
        raise DataError(
            f"training is blowing up before step {step}: the reconstruction loss is {now:.3g}, after {best:.3g} at its "
            "best. Try a lower learning rate (--set learning_rate=0.0003), and look for extreme values in the input."
        )
    if columns["latent_spread"].max() < COLLAPSED:
        raise DataError(
            f"the latent space has collapsed before step {step}: all cells of a data set are at one point (standard "
            f"deviation {columns['latent_spread'].mean():.1g}). Give reconstruction more weight (--set "
            "weight_autoencoder=20) or alignment less (--set weight_gan=0.1), and see whether the input varies."
        )
    if (
        preset.weight_gan > 0
        and preset.discriminator_updates > 0
        and columns["loss_discriminator"].max() < WON * FULL_MIXING
    ):
        raise DataError(
            f"the data sets do not mix: for the {CHECK_EVERY} steps before step {step} the discriminator told the data "
            f"set of every cell (loss {columns['loss_discriminator'].mean():.2g}; {FULL_MIXING:.2f} is full mixing). "
            "Give it fewer updates (--set discriminator_updates=1), alignment more weight (--set weight_gan=1), and "
            "check that the links pair features that vary together."
        )

"""The training loop."""

from __future__ import annotations

import functools
import math
import operator
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from scmodal.anchors import mutual_neighbours, unit_rows
from scmodal.contracts import DataError
from scmodal.inputs import EngineInput
from scmodal.losses import (
    anchor_loss,
    discriminator_loss,
    gaussian_kernel,
    geometry_loss,
    mean_square,
)
from scmodal.networks import Networks, latent_cycle
from scmodal.presets import Preset

HISTORY_COLUMNS = (
    "loss_discriminator",
    "loss_gan",
    "loss_autoencoder",
    "loss_cycle",
    "loss_anchor",
    "loss_geometry",
    "loss_total",
    "n_anchors",
    "grad_norm",
)
"""Columns of the history, one row a step; losses are unweighted and summed over data sets or pairs."""

CHECK_EVERY = 50
"""Steps between looks at the recorded losses; looking costs a wait for the device, so not every step."""

Progress = Callable[[int, int, dict[str, float]], None]
"""Called with (steps done, steps in all, latest losses)."""


@dataclass
class Batch:
    """One minibatch: for each data set its rows, and for each pair the unit-length linked rows of both sides."""

    x: list[Tensor]
    linked: list[tuple[Tensor, Tensor]]


@dataclass
class TrainingState:
    """Everything that changes during training."""

    networks: Networks
    optimiser: torch.optim.Optimizer
    discriminator_optimiser: torch.optim.Optimizer
    generator: torch.Generator
    step: int = 0


@dataclass
class TrainingData:
    """The data sets on the training device."""

    x: list[Tensor]
    linked: list[tuple[Tensor, Tensor]]
    batch_sizes: list[int]
    n_neighbours: list[int]
    messages: list[str] = field(default_factory=list)


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
    return TrainingData(
        x=[torch.as_tensor(item.x, device=device) for item in inputs],
        linked=[
            (unit_rows(inputs[k].linked[k]).to(device), unit_rows(inputs[k + 1].linked[k]).to(device))
            for k in range(len(inputs) - 1)
        ],
        batch_sizes=batch_sizes,
        n_neighbours=n_neighbours,
        messages=messages,
    )


def make_state(widths: Sequence[int], preset: Preset, seed: int, device: torch.device) -> TrainingState:
    """Networks at their start, both optimisers and the random stream of a seed."""
    networks = Networks(widths, preset, seed).to(device)

    def adam(parameters: Iterable[nn.Parameter]) -> torch.optim.Adam:
        return torch.optim.Adam(
            parameters,
            lr=preset.learning_rate,
            betas=(preset.beta1, preset.beta2),
            weight_decay=preset.weight_decay,
            fused=device.type in {"cpu", "cuda"},
        )

    return TrainingState(
        networks=networks,
        optimiser=adam([*networks.encoders.parameters(), *networks.generators.parameters()]),
        discriminator_optimiser=adam(networks.discriminators.parameters()),
        generator=torch.Generator(device).manual_seed(seed),
    )


def draw_batch(data: TrainingData, generator: torch.Generator) -> Batch:
    """Draw cells of every data set uniformly, with replacement, on the data's device."""
    index = [
        torch.randint(len(x), (size,), generator=generator, device=x.device)
        for x, size in zip(data.x, data.batch_sizes)
    ]
    return Batch(
        x=[x.index_select(0, i) for x, i in zip(data.x, index)],
        linked=[(a.index_select(0, index[k]), b.index_select(0, index[k + 1])) for k, (a, b) in enumerate(data.linked)],
    )


def dropout_share(preset: Preset, n_columns: int) -> float:
    """Share of a data set's input values to drop: the preset's, less for data sets of few columns.

    Half of 3,000 genes still tell a cell's state; half of 15 proteins often do not.
    """
    return preset.input_dropout * n_columns / (n_columns + preset.dropout_half_width)


def drop_inputs(x: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Zero a random `share` of the values and scale the others up, so that a column's mean stays."""
    if share == 0.0:
        return x
    return torch.empty_like(x).bernoulli_(1.0 - share, generator=generator).mul_(x).mul_(1.0 / (1.0 - share))


def update_discriminators(state: TrainingState, z: Sequence[Tensor], preset: Preset) -> None:
    """Several updates of every discriminator on the same latents, which carry no gradient."""
    fixed = [item.detach() for item in z]
    parameters = list(state.networks.discriminators.parameters())
    for _ in range(preset.discriminator_updates):
        loss = sum_terms(
            discriminator_loss(d(fixed[k]), d(fixed[k + 1])) for k, d in enumerate(state.networks.discriminators)
        )
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters)):
            parameter.grad = gradient
        state.discriminator_optimiser.step()


def sum_terms(terms: Iterable[Tensor]) -> Tensor:
    """Sum of scalar tensors, starting from the first (no zero on the wrong device)."""
    return functools.reduce(operator.add, terms)


def encoder_losses(
    networks: Networks, batch: Batch, z: Sequence[Tensor], anchors: Sequence[Tensor], preset: Preset
) -> dict[str, Tensor]:
    """Every term that encoders and generators minimise, unweighted, plus their weighted sum ``total``.

    Parameters
    ----------
    networks
        The networks as they are after the discriminators' updates.
    batch
        The minibatch that `z` was encoded from.
    z
        Latents of each data set (batch x n_latent), with gradients.
    anchors
        Anchors of each adjacent pair within the minibatch.
    preset
        The terms' weights.
    """
    encoders, generators = networks.encoders, networks.generators
    pairs = range(len(z) - 1)
    terms = {
        "gan": -sum_terms(discriminator_loss(d(z[k]), d(z[k + 1])) for k, d in enumerate(networks.discriminators)),
        "autoencoder": sum_terms(mean_square(g(item), x) for g, item, x in zip(generators, z, batch.x)),
        "cycle": sum_terms(
            mean_square(z[i], latent_cycle(generators[j], encoders[j], z[i]))  # type: ignore[arg-type]
            for k in pairs
            for i, j in ((k, k + 1), (k + 1, k))
        ),
        "anchor": sum_terms(anchor_loss(z[k], z[k + 1], anchors[k]) for k in pairs),
        "geometry": sum_terms(
            geometry_loss(gaussian_kernel(x), item, preset.geometry_cap) for x, item in zip(batch.x, z)
        ),
    }
    terms["total"] = (
        preset.weight_gan * terms["gan"]
        + preset.weight_autoencoder * terms["autoencoder"]
        + preset.weight_cycle * terms["cycle"]
        + preset.weight_anchor * terms["anchor"]
        + preset.weight_geometry * terms["geometry"]
    )
    return terms


def set_learning_rate(state: TrainingState, preset: Preset) -> None:
    """Learning rate of the coming step: a straight line from the preset's first to its final one."""
    done = state.step / preset.steps
    rate = preset.learning_rate + (preset.final_learning_rate - preset.learning_rate) * done
    for optimiser in (state.optimiser, state.discriminator_optimiser):
        for group in optimiser.param_groups:
            group["lr"] = rate


def train_step(state: TrainingState, data: TrainingData, preset: Preset, record: Tensor) -> None:
    """One step: draw a batch, update the discriminators, then encoders and generators.

    Parameters
    ----------
    record
        Row of the history (len(HISTORY_COLUMNS),) on the training device, filled in place.
    """
    set_learning_rate(state, preset)
    networks = state.networks
    batch = draw_batch(data, state.generator)
    z = [
        encoder(drop_inputs(x, dropout_share(preset, x.shape[1]), state.generator))
        for encoder, x in zip(networks.encoders, batch.x)
    ]
    update_discriminators(state, z, preset)
    anchors = [
        mutual_neighbours(a, b, k_a=min(data.n_neighbours[k + 1], len(b)), k_b=min(data.n_neighbours[k], len(a)))
        for k, (a, b) in enumerate(batch.linked)
    ]
    losses = encoder_losses(networks, batch, z, anchors, preset)
    parameters = state.optimiser.param_groups[0]["params"]
    for parameter, gradient in zip(parameters, torch.autograd.grad(losses["total"], parameters)):
        parameter.grad = gradient
    norm = torch.nn.utils.clip_grad_norm_(parameters, preset.clip_norm)
    state.optimiser.step()
    state.step += 1
    with torch.no_grad():
        row = [
            -losses["gan"],
            *(losses[name] for name in ("gan", "autoencoder", "cycle", "anchor", "geometry", "total")),
            sum_terms(item.sum() for item in anchors),
            norm,
        ]
        record.copy_(torch.stack(row))


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
    while state.step < preset.steps:
        train_step(state, data, preset, history[state.step])
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

"""One step of training: draw a minibatch, update the discriminators, then encoders and generators."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from scmodal.anchors import mutual_neighbours
from scmodal.losses import (
    anchor_loss,
    discriminator_loss,
    gaussian_kernel,
    geometry_loss,
    mean_square,
)
from scmodal.matching import Directions, Sides
from scmodal.networks import Networks, latent_cycle
from scmodal.precision import matrix_products
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
    "grad_norm_discriminator",
    "anchored_share",
    "latent_spread",
)
"""Columns of the history, one row a step; losses are unweighted and summed over data sets or pairs.

``grad_norm`` is that of encoders and generators before clipping, ``grad_norm_discriminator`` that of the last update of
the discriminators; ``anchored_share`` the share of the batch's cells with an anchor, averaged over both sides of all
pairs; ``latent_spread`` the standard deviation over the batch's cells, averaged over latent dimensions, in the data set
where it is least.
"""


@dataclass
class Batch:
    """One minibatch: for each data set its rows, and for each pair the unit-length linked rows of both sides.

    ``batches`` tells each row's batch (one-hot), ``composition`` the share of each batch in the data set; None where
    networks are not told of batches. ``counted`` tells of each pair which rows of both sides count in the adversarial
    term; None where all do.
    """

    x: list[Tensor]
    linked: list[tuple[Tensor, Tensor]]
    pairs: list[tuple[int, int]]
    batches: list[Tensor | None]
    composition: list[Tensor | None]
    counted: list[tuple[Tensor, Tensor] | None]


@dataclass
class TrainingState:
    """Everything that changes during training.

    ``directions`` are those that cells of each pair were last matched by anew; empty before that.
    """

    networks: Networks
    optimiser: torch.optim.Optimizer
    discriminator_optimiser: torch.optim.Optimizer
    generator: torch.Generator
    step: int = 0
    directions: list[Directions] = field(default_factory=list)


@dataclass
class TrainingData:
    """The data sets on the training device.

    Attributes
    ----------
    x
        Scaled input of each data set (cells x columns).
    pairs
        Positions of the data sets that are matched with each other, one discriminator a pair.
    linked
        For each pair what anchors of both sides are sought on, rows of unit length; changed in place where cells are
        matched anew.
    batch_sizes, n_neighbours
        Cells of each data set in a minibatch, and neighbours among which its anchors are sought.
    batches, composition
        Batch of each cell as a one-hot row (cells x batches) and the share of each batch; None for a data set whose
        batches are not told.
    counted
        For each pair 1 for the cells of both sides that count in its adversarial term, else 0; None where all do.
    messages
        What was noticed, as sentences.
    sides
        For each pair what cells are matched anew by; empty where they are not.
    """

    x: list[Tensor]
    pairs: list[tuple[int, int]]
    linked: list[tuple[Tensor, Tensor]]
    batch_sizes: list[int]
    n_neighbours: list[int]
    batches: list[Tensor | None]
    composition: list[Tensor | None]
    counted: list[tuple[Tensor, Tensor] | None]
    messages: list[str] = field(default_factory=list)
    sides: list[Sides] = field(default_factory=list)


def draw_batch(data: TrainingData, generator: torch.Generator) -> Batch:
    """Draw cells of every data set uniformly, with replacement, on the data's device."""
    index = [
        torch.randint(len(x), (size,), generator=generator, device=x.device)
        for x, size in zip(data.x, data.batch_sizes)
    ]
    return Batch(
        x=[x.index_select(0, i) for x, i in zip(data.x, index)],
        linked=[
            (a.index_select(0, index[i]), b.index_select(0, index[j]))
            for (i, j), (a, b) in zip(data.pairs, data.linked)
        ],
        pairs=data.pairs,
        batches=[None if b is None else b.index_select(0, i) for b, i in zip(data.batches, index)],
        composition=data.composition,
        counted=[
            None if both is None else (both[0].index_select(0, index[i]), both[1].index_select(0, index[j]))
            for (i, j), both in zip(data.pairs, data.counted)
        ],
    )


def dropout_share(preset: Preset, n_columns: int) -> float:
    """Share of a data set's input values to drop: the preset's, less for data sets of few columns.

    Half of 3,000 genes still tell a cell's state; half of 15 proteins often do not.
    """
    return preset.input_dropout * n_columns / (n_columns + preset.dropout_half_width)


def drop_inputs(x: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Zero a random `share` of the values (in steps of 1/256) and scale the others up, so that a column's mean stays.

    A random byte decides over each value: on a CPU, eight of them cost what a single draw from torch's Bernoulli
    distribution costs, and a step of 300 cells x 3,000 columns needs a million.
    """
    drop = round(256 * share)
    if drop == 0:
        return x
    words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64, device=x.device)
    draws = words.random_(-(2**63), None, generator=generator).view(torch.uint8)[: x.numel()].view_as(x)
    return (x * (256.0 / (256 - drop))).masked_fill_(draws < drop, 0.0)


def pair_loss(d: nn.Module, a: Tensor, b: Tensor, counted: tuple[Tensor, Tensor] | None) -> Tensor:
    """Discriminator loss of one pair, both sides in one pass through the network."""
    logits = d(torch.cat((a, b)))
    return discriminator_loss(logits[: len(a)], logits[len(a) :], counted)


def update_discriminators(state: TrainingState, batch: Batch, z: Sequence[Tensor], preset: Preset) -> None:
    """Several updates of every discriminator on the same latents, which carry no gradient."""
    fixed = [item.detach() for item in z]
    parameters = list(state.networks.discriminators.parameters())
    for _ in range(preset.discriminator_updates):
        with matrix_products(preset.precision, fixed[0].device):
            loss = sum_terms(
                pair_loss(d, fixed[i], fixed[j], counted)
                for (i, j), counted, d in zip(batch.pairs, batch.counted, state.networks.discriminators)
            )
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters)):
            parameter.grad = gradient.contiguous()  # fused updates go by the place in memory
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
        Anchors of each pair within the minibatch.
    preset
        The terms' weights.
    """
    encoders, generators = networks.encoders, networks.generators
    pairs = batch.pairs
    with matrix_products(preset.precision, z[0].device):
        terms = {
            "gan": -sum_terms(
                pair_loss(d, z[i], z[j], counted)
                for (i, j), counted, d in zip(pairs, batch.counted, networks.discriminators)
            ),
            "autoencoder": sum_terms(
                mean_square(g(item, told), x) for g, item, told, x in zip(generators, z, batch.batches, batch.x)
            ),
            "cycle": sum_terms(
                mean_square(
                    z[i],
                    latent_cycle(generators[j], encoders[j], z[i], batch.composition[j]),  # type: ignore[arg-type]
                )
                for pair in pairs
                for i, j in (pair, pair[::-1])
            ),
        }
        kernels = [gaussian_kernel(x) for x in batch.x]
    terms["anchor"] = sum_terms(anchor_loss(z[i], z[j], found) for (i, j), found in zip(pairs, anchors))
    terms["geometry"] = sum_terms(geometry_loss(kernel, item, preset.geometry_cap) for kernel, item in zip(kernels, z))
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
            if isinstance(group["lr"], Tensor):  # where a recorded step reads it, see scmodal.capture
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate


def gradient_norm(parameters: Iterable[Tensor], like: Tensor) -> Tensor:
    """Norm of all gradients together, a scalar like `like`; 0 where there are none."""
    norms = [parameter.grad.norm() for parameter in parameters if parameter.grad is not None]
    return torch.stack(norms).norm() if norms else torch.zeros_like(like)


def compute_step(state: TrainingState, data: TrainingData, preset: Preset, record: Tensor) -> None:
    """All arithmetic of one step, without a wait for the device and without anything that changes between steps.

    Parameters
    ----------
    record
        Row of the history (len(HISTORY_COLUMNS),) on the training device, filled in place.
    """
    networks = state.networks
    batch = draw_batch(data, state.generator)
    seen = [drop_inputs(x, dropout_share(preset, x.shape[1]), state.generator) for x in batch.x]
    with matrix_products(preset.precision, seen[0].device):
        z = [encoder(x, told).float() for encoder, x, told in zip(networks.encoders, seen, batch.batches)]
    update_discriminators(state, batch, z, preset)
    anchors = [
        mutual_neighbours(a, b, k_a=min(data.n_neighbours[j], len(b)), k_b=min(data.n_neighbours[i], len(a)))
        for (i, j), (a, b) in zip(data.pairs, batch.linked)
    ]
    losses = encoder_losses(networks, batch, z, anchors, preset)
    parameters = state.optimiser.param_groups[0]["params"]
    for parameter, gradient in zip(parameters, torch.autograd.grad(losses["total"], parameters)):
        parameter.grad = gradient.contiguous()  # fused updates go by the place in memory
    norm = torch.nn.utils.clip_grad_norm_(parameters, preset.clip_norm)
    state.optimiser.step()
    with torch.no_grad():
        row = [
            -losses["gan"],
            *(losses[name] for name in ("gan", "autoencoder", "cycle", "anchor", "geometry", "total")),
            sum_terms(item.sum() for item in anchors),
            norm,
            gradient_norm(networks.discriminators.parameters(), norm),
            torch.stack([item.amax(side).mean() for item in anchors for side in (0, 1)]).mean(),
            torch.stack([item.std(0, correction=0).mean() for item in z]).amin(),
        ]
        record.copy_(torch.stack(row))


def train_step(state: TrainingState, data: TrainingData, preset: Preset, record: Tensor) -> None:
    """One step: its learning rate, its arithmetic (see :func:`compute_step`), and the count."""
    set_learning_rate(state, preset)
    compute_step(state, data, preset, record)
    state.step += 1

"""Settings of the engine: two named presets and the one function that changes them."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import Any

from scmodal.contracts import InputError, nearest


@dataclass(frozen=True)
class Preset:
    """Everything that the engine can be told.

    The defaults of this class are the settings of the published method (preset ``paper``).
    """

    name: str = "paper"

    topology: str = "chain"
    """Which data sets are matched with each other, see :func:`pairs_of`."""

    batch_covariate: bool = False
    """Whether encoders and generators are told the batch of a cell, where a data set has a ``batch_key``."""

    # Networks
    n_latent: int = 20
    """Width of the shared latent space."""
    n_hidden: int = 512
    """Width of every hidden layer."""
    discriminator_clamp: float = 50.0
    """The discriminator's output is clamped to plus or minus this value."""
    init_std: float = 0.1
    """Standard deviation of the normal distribution that weights and biases start from."""

    start_scale: float = 0.0
    """Standard deviation of the latents that encoders and generators start at, see :mod:`scmodal.start`; 0 starts from
    random weights."""

    evening: float = 0.0
    """Latents are given divided by their length to this power, see :func:`scmodal.latents.evened`."""

    impute_neighbours: int = 0
    """Cells of the target whose mean place is decoded in imputation, see :meth:`scmodal.model.ScModal.decode`; 0
    decodes the cell's own place."""

    precision: str = "float32"
    """Of the networks' matrix products, see :data:`PRECISIONS`; weights, sums, losses and updates are float32."""

    # Optimisation
    steps: int = 10_000
    batch_size: int = 500
    """Cells drawn (with replacement) from every data set in a step; a smaller data set gives all it has."""
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-3
    """Learning rate at the last step; it changes linearly from the first."""
    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 1e-3
    """Coupled L2 penalty on every parameter."""
    discriminator_updates: int = 5
    """Discriminator updates before each update of encoders and generators."""
    unmixing: float = 0.0
    """Training ends early once the data sets mix less by this share than at their best, see
    :func:`scmodal.training.overtrained`; 0 does all steps."""
    clip_norm: float = 5.0
    """Global norm to which the gradients of encoders and generators are clipped."""

    # Loss weights
    weight_gan: float = 1.0
    least_counterpart: float = 0.0
    """Cells with less of a counterpart on the other side are left out of the adversarial term where there are many of
    them (:func:`scmodal.counterpart.left_alone`); 0 leaves none out."""
    weight_autoencoder: float = 10.0
    weight_cycle: float = 10.0
    weight_anchor: float = 1.0
    weight_geometry: float = 10.0
    geometry_cap: float = 0.975
    """Cosine similarity of kernel rows beyond which the geometry term no longer pulls."""

    # Anchors
    n_neighbours: int = 30
    """Neighbours within the minibatch that must be mutual."""
    smoothing: float = 0.0
    """Share of the neighbourhood mean in the linked features that anchors are sought on; 0 uses them raw."""
    smoothing_neighbours: int = 20
    """Least size of a neighbourhood ..."""
    smoothing_neighbours_most: int = 100
    """... and greatest: between them it is a fiftieth of the data set's cells."""
    smoothing_components: int = 30
    """Components of a data set in which its own neighbourhoods are found."""
    matching_rounds: int = 0
    """How often coordinates to seek anchors on are refined, see :mod:`scmodal.matching`; 0 takes the links."""
    matching_share: float = 0.5
    """Weight of the canonical coordinates in them, against the links."""
    matching_components: int = 50
    """Components of each data set that canonical directions are found in."""
    rematching_every: int = 0
    """Steps after which canonical directions are found anew by the latents, again and again, where cells are matched
    before training, see :mod:`scmodal.rematching`; 0 never."""

    # Inputs
    input_dropout: float = 0.0
    """Share of the encoders' input values set to zero in training (the others are scaled up); none afterwards."""
    dropout_half_width: float = 0.0
    """Number of input columns at which a data set gets half of that dropout; 0 gives every data set the same."""
    n_top_genes: int = -1
    """Most highly variable genes used beside the linked ones; -1 takes as many as preparation was asked for."""
    scale_clip: float = 10.0
    """Scaled values are clipped to plus or minus this value."""
    min_target_sum: float = 20.0
    """Least total to which the linked columns of a cell are normalised."""
    chromatin_genes: int = 1000
    """Most variable genes of RNA and of gene activity that are used where these two are matched, links among them; 0
    uses what preparation marked."""
    chromatin_components: int = 30
    """Principal components of the linked genes of both together that anchors are then sought in; 0 takes the genes."""


PRESETS: dict[str, Preset] = {
    "paper": Preset(),
    "default": Preset(
        name="default",
        batch_covariate=True,
        precision="bfloat16",
        init_std=0.03,
        steps=1000,
        batch_size=300,
        final_learning_rate=1e-5,
        discriminator_updates=2,
        unmixing=0.2,
        smoothing=0.8,
        matching_rounds=3,
        matching_share=0.6,
        rematching_every=100,
        least_counterpart=0.7,
        start_scale=0.5,
        evening=0.5,
        impute_neighbours=30,
        input_dropout=0.5,
        dropout_half_width=30.0,
        weight_anchor=5.0,
        chromatin_genes=0,
        chromatin_components=0,
    ),
}
"""`paper` is the published method; `default` changes what the last section of docs/method.md names."""

TOPOLOGIES = ("chain", "star", "all")
"""``chain``: neighbours in the order given; ``star``: the first with every other; ``all``: every pair."""

PRECISIONS = ("float32", "bfloat16")
"""``bfloat16`` is used where the processor multiplies it natively and faster; elsewhere it is float32 by itself."""

_CHOICES = {"topology": TOPOLOGIES, "precision": PRECISIONS}


def _unknown_choice(setting: str, value: str) -> str:
    """What is wrong with a value that is none of a setting's choices, with the nearest of them."""
    close = nearest(value, _CHOICES[setting])
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"unknown {setting} {value!r}{hint} (known: {', '.join(_CHOICES[setting])})"


def pairs_of(topology: str, n: int) -> list[tuple[int, int]]:
    """Positions of the data sets that are matched with each other.

    Parameters
    ----------
    topology
        One of :data:`TOPOLOGIES`; with two data sets they are all the same.
    n
        Number of data sets.

    Raises
    ------
    InputError
        Unknown topology, with the nearest known one.
    """
    if topology not in TOPOLOGIES:
        raise InputError(_unknown_choice("topology", topology))
    every = list(itertools.combinations(range(n), 2))
    if topology == "chain":
        return [(i, j) for i, j in every if j == i + 1]
    if topology == "star":
        return [(i, j) for i, j in every if i == 0]
    return every


_LOWER_BOUNDS: dict[str, float] = {
    "n_latent": 1,
    "n_hidden": 1,
    "steps": 1,
    "batch_size": 2,
    "discriminator_updates": 0,
    "n_neighbours": 1,
    "smoothing_neighbours": 1,
    "smoothing_neighbours_most": 1,
    "matching_rounds": 0,
    "matching_components": 2,
    "smoothing_components": 1,
    "n_top_genes": -1,
    "scale_clip": 0.1,
}

_BELOW_ONE = {"smoothing", "evening", "beta1", "beta2"}
_AT_MOST_ONE = {"matching_share", "least_counterpart"}
_MOST_DROPOUT = 0.95  # of the encoders' input: the rest is scaled up by what is left


def get_preset(name: str | Preset, **changes: Any) -> Preset:
    """Preset by name, with single settings changed.

    Parameters
    ----------
    name
        ``"default"``, ``"paper"`` or a ready :class:`Preset`.
    changes
        Settings to change; strings are converted to the setting's type, ``None`` leaves the preset's value.

    Raises
    ------
    InputError
        Unknown preset or setting (with the nearest known name), or a value of the wrong kind or range.
    """
    if isinstance(name, str):
        if name not in PRESETS:
            close = nearest(name, list(PRESETS))
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise InputError(f"unknown preset {name!r}{hint} (known: {', '.join(PRESETS)})")
        preset = PRESETS[name]
    else:
        preset = name
    types = {f.name: type(getattr(preset, f.name)) for f in dataclasses.fields(Preset) if f.name != "name"}
    problems: list[str] = []
    values: dict[str, Any] = {}
    for key, raw in changes.items():
        if raw is None:
            continue
        if key not in types:
            close = nearest(key, list(types))
            hint = f"; did you mean {close[0]!r}?" if close else f" (known: {', '.join(types)})"
            problems.append(f"unknown setting {key!r}{hint}")
            continue
        if key in _CHOICES:
            values[key] = str(raw)
            if raw not in _CHOICES[key]:
                problems.append(_unknown_choice(key, str(raw)))
            continue
        if types[key] is bool:
            values[key] = str(raw).lower() == "true"
            if str(raw).lower() not in {"true", "false"}:
                problems.append(f"setting {key}={raw!r}: must be true or false")
            continue
        try:
            value = types[key](raw)
        except (TypeError, ValueError):
            problems.append(f"setting {key}={raw!r}: expected {'a whole number' if types[key] is int else 'a number'}")
            continue
        low = _LOWER_BOUNDS.get(key, 0.0)
        if not low <= value < float("inf"):
            problems.append(f"setting {key}={raw!r}: must be at least {low:g} and finite")
        elif key in _BELOW_ONE and value >= 1:
            problems.append(f"setting {key}={raw!r}: must be below 1")
        elif key == "input_dropout" and value > _MOST_DROPOUT:
            problems.append(f"setting {key}={raw!r}: must be at most {_MOST_DROPOUT:g}")
        elif key in _AT_MOST_ONE and value > 1:
            problems.append(f"setting {key}={raw!r}: must be at most 1")
        values[key] = value
    if problems:
        raise InputError(problems)
    return dataclasses.replace(preset, **values)

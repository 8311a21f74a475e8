"""The neural networks: one encoder and one generator a data set, one discriminator a pair of data sets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scmodal.precision import linear, product
from scmodal.presets import Preset, pairs_of


def apply(layer: nn.Linear, x: Tensor) -> Tensor:
    """A linear layer, see :func:`scmodal.precision.linear`."""
    return linear(x, layer.weight, layer.bias)


class TwoLayer(nn.Module):
    """``n_in -> n_hidden -> n_out`` with ReLU between: an encoder or a generator.

    Parameters
    ----------
    n_in, n_hidden, n_out
        Widths.
    n_batches
        Number of batches of the data set that the network is told of; 0 tells it nothing. A batch is a one-hot input
        beside the others, and so a row of weights that is added to the hidden layer.
    """

    def __init__(self, n_in: int, n_hidden: int, n_out: int, n_batches: int = 0) -> None:
        super().__init__()
        self.first = nn.Linear(n_in, n_hidden)
        self.second = nn.Linear(n_hidden, n_out)
        self.batch = nn.Parameter(torch.zeros(n_batches, n_hidden)) if n_batches else None

    def forward(self, x: Tensor, batch: Tensor | None = None) -> Tensor:
        """Map rows of `x` (rows x n_in) to rows x n_out.

        Parameters
        ----------
        x
            Input.
        batch
            Share of each batch in each row (rows x n_batches, or n_batches for all rows alike): one-hot, or the
            composition of the data set for a cell that comes from elsewhere. Without it, no batch is added.
        """
        hidden = apply(self.first, x)
        if self.batch is not None and batch is not None:
            hidden = hidden + batch @ self.batch
        return apply(self.second, F.relu(hidden))


class Discriminator(nn.Module):
    """``n_latent -> n_hidden -> n_hidden -> 1``, ReLU between, output clamped; a logit a cell."""

    def __init__(self, n_latent: int, n_hidden: int, clamp: float) -> None:
        super().__init__()
        self.first = nn.Linear(n_latent, n_hidden)
        self.second = nn.Linear(n_hidden, n_hidden)
        self.third = nn.Linear(n_hidden, 1)
        self.clamp = clamp

    def forward(self, z: Tensor) -> Tensor:
        """Logits (batch,) that latents `z` (batch x n_latent) come from the pair's first data set."""
        h = F.relu(apply(self.second, F.relu(apply(self.first, z))))
        return self.third(h).squeeze(-1).clamp(-self.clamp, self.clamp)


class Networks(nn.Module):
    """All networks of one integration.

    Parameters
    ----------
    widths
        Number of input columns of every data set, in their order.
    preset
        Widths and the spread of the starting values are taken from it.
    seed
        Starting values depend on this alone, not on torch's global random state.
    n_batches
        Batches of every data set that its encoder and generator are told of; without it none.
    """

    def __init__(
        self, widths: Sequence[int], preset: Preset, seed: int = 0, n_batches: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        hidden, latent = preset.n_hidden, preset.n_latent
        batches = list(n_batches) if n_batches is not None else [0] * len(widths)
        self.encoders = nn.ModuleList(TwoLayer(p, hidden, latent, n) for p, n in zip(widths, batches))
        self.generators = nn.ModuleList(TwoLayer(latent, hidden, p, n) for p, n in zip(widths, batches))
        self.discriminators = nn.ModuleList(
            Discriminator(latent, hidden, preset.discriminator_clamp) for _ in pairs_of(preset.topology, len(widths))
        )
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if not name.endswith(".batch"):  # starts at no difference between batches
                    parameter.normal_(0.0, preset.init_std, generator=generator)


def latent_cycle(generator: TwoLayer, encoder: TwoLayer, z: Tensor, batch: Tensor | None = None) -> Tensor:
    """``encoder(generator(z, batch), batch)`` without the wide reconstruction between the two.

    The generator's last and the encoder's first layer are both linear, so their product (n_hidden x n_hidden) is all
    that is needed; at 3,000 columns and 500 cells this halves the work and never makes the batch x columns matrix.
    """
    weight = product(encoder.first.weight, generator.second.weight)
    bias = torch.addmv(encoder.first.bias, encoder.first.weight, generator.second.bias)
    hidden = apply(generator.first, z)
    if generator.batch is not None and batch is not None:
        hidden = hidden + batch @ generator.batch
    back = linear(F.relu(hidden), weight, bias)
    if encoder.batch is not None and batch is not None:
        back = back + batch @ encoder.batch
    return apply(encoder.second, F.relu(back))

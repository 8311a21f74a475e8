"""The neural networks: one encoder and one generator a data set, one discriminator a pair of data sets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scmodal.presets import Preset, pairs_of


class TwoLayer(nn.Module):
    """``n_in -> n_hidden -> n_out`` with ReLU between: an encoder or a generator."""

    def __init__(self, n_in: int, n_hidden: int, n_out: int) -> None:
        super().__init__()
        self.first = nn.Linear(n_in, n_hidden)
        self.second = nn.Linear(n_hidden, n_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map rows of `x` (batch x n_in) to batch x n_out."""
        return self.second(F.relu(self.first(x)))


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
        h = F.relu(self.second(F.relu(self.first(z))))
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
    """

    def __init__(self, widths: Sequence[int], preset: Preset, seed: int = 0) -> None:
        super().__init__()
        hidden, latent = preset.n_hidden, preset.n_latent
        self.encoders = nn.ModuleList(TwoLayer(p, hidden, latent) for p in widths)
        self.generators = nn.ModuleList(TwoLayer(latent, hidden, p) for p in widths)
        self.discriminators = nn.ModuleList(
            Discriminator(latent, hidden, preset.discriminator_clamp) for _ in pairs_of(preset.topology, len(widths))
        )
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(0.0, preset.init_std, generator=generator)


def latent_cycle(generator: TwoLayer, encoder: TwoLayer, z: Tensor) -> Tensor:
    """``encoder(generator(z))`` without the wide reconstruction between the two.

    The generator's last and the encoder's first layer are both linear, so their product (n_hidden x n_hidden) is all
    that is needed; at 3,000 columns and 500 cells this halves the work and never makes the batch x columns matrix.
    """
    weight = encoder.first.weight @ generator.second.weight
    bias = torch.addmv(encoder.first.bias, encoder.first.weight, generator.second.bias)
    return encoder.second(F.relu(F.linear(F.relu(generator.first(z)), weight, bias)))

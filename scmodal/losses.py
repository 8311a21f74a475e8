"""The loss terms as pure functions of tensors. Symbols and formulas: docs/method.md."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from scmodal.precision import linear


def discriminator_loss(logits_a: Tensor, logits_b: Tensor, counted: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Cross-entropy of telling the first data set (label 1) from the second; 2 ln 2 at full mixing.

    Parameters
    ----------
    logits_a, logits_b
        The discriminator's outputs (batch,) for the two data sets.
    counted
        For both 1 where a cell counts, else 0 (batch,); by default all do. A side of which none does contributes 0.
    """
    losses = F.softplus(-logits_a), F.softplus(logits_b)
    if counted is None:
        return losses[0].mean() + losses[1].mean()
    a, b = ((loss * weight).sum() / weight.sum().clamp_min(1.0) for loss, weight in zip(losses, counted))
    return a + b


def squared_distances(x: Tensor) -> Tensor:
    """Squared Euclidean distances between the rows of `x`: batch x batch, by the Gram matrix, exact zero diagonal."""
    norms = (x * x).sum(1)
    distances = torch.add(norms[:, None] + norms[None, :], linear(x, x), alpha=-2.0).clamp_min(0.0)
    return distances * (1.0 - torch.eye(len(x), device=x.device, dtype=x.dtype))


def gaussian_kernel(x: Tensor) -> Tensor:
    """``exp(-|x_i - x_j|^2 / 2p)`` between rows of `x` (batch x p)."""
    return torch.exp(squared_distances(x) * (-0.5 / x.shape[1]))


def geometry_loss(kernel_x: Tensor, z: Tensor, cap: float) -> Tensor:
    """Minus the mean capped cosine similarity between the kernel rows of the input and of the latent.

    Parameters
    ----------
    kernel_x
        :func:`gaussian_kernel` of the input rows (batch x batch); carries no gradient.
    z
        Latents of the same cells (batch x n_latent).
    cap
        Similarity beyond which a cell no longer contributes a gradient.
    """
    similarity = F.cosine_similarity(kernel_x, gaussian_kernel(z), dim=1)
    return -similarity.clamp_max(cap).mean()


def anchor_loss(z_a: Tensor, z_b: Tensor, anchors: Tensor) -> Tensor:
    """Mean squared latent distance (per dimension) of anchored pairs; 0 where a batch has none.

    Parameters
    ----------
    z_a, z_b
        Latents (batch_a x n_latent, batch_b x n_latent).
    anchors
        1 where a pair of cells is an anchor, else 0 (batch_a x batch_b), in the latents' precision.
    """
    # sum_ij S_ij |a_i - b_j|^2 = sum_i r_i |a_i|^2 + sum_j c_j |b_j|^2 - 2 sum_ij S_ij a_i.b_j
    rows, columns = anchors.sum(1), anchors.sum(0)
    total = rows @ (z_a * z_a).sum(1) + columns @ (z_b * z_b).sum(1) - 2.0 * (z_a * (anchors @ z_b)).sum()
    return total / (rows.sum().clamp_min(1.0) * z_a.shape[1])


def mean_square(a: Tensor, b: Tensor) -> Tensor:
    """Mean over rows and columns of the squared difference: the autoencoder's and the latent cycle's term."""
    return F.mse_loss(a, b)

"""Matrix products: in which precision, and by which of the libraries that torch brings."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


@functools.cache
def has_bfloat16(device_type: str) -> bool:
    """Whether a kind of device has instructions for bfloat16 products with float32 sums (avx512_bf16, AMX, Ampere)."""
    if device_type == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    if device_type == "cpu" and torch.backends.mkldnn.is_available():
        capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def used_precision(wanted: str, device: torch.device) -> str:
    """Precision that products get on a device: the wanted one, or float32 where the device has nothing faster."""
    return wanted if wanted == "float32" or has_bfloat16(device.type) else "float32"


def matrix_products(wanted: str, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Context in which networks multiply matrices in the wanted precision, if the device has it.

    Every use of a weight is converted by itself (no cache), so that the gradients of several uses are summed in
    float32.
    """
    if used_precision(wanted, device) == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


@functools.cache
def onednn_is_faster() -> bool:
    """Whether oneDNN multiplies float32 faster than what torch takes by default.

    That is MKL, which on processors of another maker than its own does without AVX-512, and with AVX2 is slow where
    rows of the result do not begin at whole vectors, as with 3,014 columns.
    """
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return (
        bool(capabilities.get("avx2"))
        and str(capabilities.get("cpu_name", "")).startswith("AMD")
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


WIDE = 1024
"""Width of its input from which the gradient of a weight is left to oneDNN, which first turns the other factor."""


def _product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """``a @ b.T + bias`` by oneDNN; `b` may be laid out either way, `a` is copied unless its rows are contiguous."""
    return torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")


def _weight_gradient(gradient: Tensor, x: Tensor) -> Tensor:
    """``gradient.T @ x``, rows contiguous: the optimiser's fused update takes gradients laid out like the weights."""
    if x.shape[1] >= WIDE and gradient.shape[1] <= x.shape[1]:
        return _product(gradient.T, x.T)
    return gradient.T @ x


class _OneDnnLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        (gradient,) = gradients
        return (
            _product(gradient, weight.T) if ctx.needs_input_grad[0] else None,
            _weight_gradient(gradient, x) if ctx.needs_input_grad[1] else None,
            gradient.sum(0) if ctx.needs_input_grad[2] else None,
        )


class _OneDnnProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return _product(a, b.T)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, b = ctx.saved_tensors
        (gradient,) = gradients
        return (
            _product(gradient, b) if ctx.needs_input_grad[0] else None,
            a.T @ gradient if ctx.needs_input_grad[1] else None,  # by rows, unlike the turned product of the above
        )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias``, with gradients, by the fastest library for the precision in force.

    Parameters
    ----------
    x
        Rows (n x k).
    weight
        m x k.
    bias
        Length m.

    Returns
    -------
    n x m.
    """
    return _OneDnnLinear.apply(x, weight, bias) if _by_onednn(x) else F.linear(x, weight, bias)


def product(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b`` (n x k, k x m), with gradients, by the fastest library for the precision in force."""
    return _OneDnnProduct.apply(a, b) if _by_onednn(a) else a @ b


def _by_onednn(x: Tensor) -> bool:
    plain = x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu")
    return not plain and onednn_is_faster()

"""The precision of matrix products, and which of them a device multiplies natively."""

from __future__ import annotations

import contextlib
import functools

import torch


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

"""How this process gets the memory of large arrays."""

from __future__ import annotations

import ctypes
import os
import platform

MMAP_THRESHOLD, TRIM_THRESHOLD, TOP_PAD = -3, -1, -2  # of mallopt(3)


def keep_large_buffers() -> None:
    """Let the C library keep the memory of freed arrays, and take it in huge pages.

    A training step makes and frees the same arrays of several megabytes again and again. By default each is handed
    back to the system and comes again as thousands of new pages. To be called in a process of our own, before torch is
    imported; where the C library is not glibc, only torch is told.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch asks for huge pages
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    for option, value in ((MMAP_THRESHOLD, 1 << 30), (TRIM_THRESHOLD, (1 << 31) - 1), (TOP_PAD, 1 << 26)):
        libc.mallopt(option, value)

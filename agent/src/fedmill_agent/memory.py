# SPDX-License-Identifier: Apache-2.0
"""Keeps the daemon small on glibc: a gateway has 1 GB, and replays pass through large arrays.

Left alone, glibc raises its threshold for returning memory with every large array that is freed,
gives each thread an arena of its own, and keeps what they have grown to. Other C libraries do not
have these knobs, and then nothing happens.
"""

import ctypes

# Parameters of mallopt(3), from <malloc.h>.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_THRESHOLD_BYTES = 128 * 1024


def use_little_memory() -> None:
    """Fix the thresholds and use one arena; call before threads are started."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_ARENA_MAX, 1)
        mallopt(_MMAP_THRESHOLD, _THRESHOLD_BYTES)
        mallopt(_TRIM_THRESHOLD, _THRESHOLD_BYTES)


def return_memory() -> None:
    """Give back to the system what lies free between what is used; takes about a millisecond."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)

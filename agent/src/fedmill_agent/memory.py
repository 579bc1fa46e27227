# SPDX-License-Identifier: Apache-2.0
"""Keeps the daemon small on glibc: a gateway has 1 GB, and replays pass through large arrays.

Left alone, glibc gives each thread an arena of its own and keeps what they have grown to. Other C
libraries do not have these knobs, and then nothing happens. Its thresholds for returning memory
are left as they are: fixed low ones cost a third more CPU in every round and gain nothing.
"""

import ctypes
from importlib import import_module

from fedmill_shared.lean import without

_ARENA_MAX = -8  # parameter of mallopt(3), from <malloc.h>


def import_numpy() -> None:
    """Import numpy without the texts of its ``help()``; call before anything else imports it.

    ``python -OO`` leaves them out in the same way.
    """
    with without(
        empty=["numpy._core._add_newdocs", "numpy._core._add_newdocs_scalars"],
        later={
            "inspect": {"cleandoc": _no_text, "signature": _no_signature},
            "ast": {},  # reads what is written in files of numpy's own
            "pickle": {},
        },
    ):
        import_module("numpy")


def _no_text(_text: str) -> str:
    return ""


def _no_signature(_function: object) -> None:
    """As numpy leaves it where the signature is to be worked out once somebody asks."""


def use_little_memory() -> None:
    """Use one arena; call before threads are started."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_ARENA_MAX, 1)


def return_memory() -> None:
    """Give back to the system what lies free between what is used; takes about a millisecond."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)

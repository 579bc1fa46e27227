# SPDX-License-Identifier: Apache-2.0
"""Keeps the daemon small on glibc: a gateway has 1 GB, and replays pass through large arrays.

Left alone, glibc gives each thread an arena of its own and keeps what they have grown to. Other C
libraries do not have these knobs, and then nothing happens. Its thresholds for returning memory
are left as they are: fixed low ones cost a third more CPU in every round and gain nothing.
"""

import ctypes
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

from fedmill_shared.lean import without

_ARENA_MAX = -8  # parameter of mallopt(3), from <malloc.h>
_DONT_NEED = 4  # advice of madvise(2), from <sys/mman.h>
_MAPPED = Path("/proc/self/smaps")


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


@cache
def return_code(library: str) -> None:
    """Unmap the code of ``library``, a part of the path to it; only the first call does.

    For a library that runs most of its code while it starts, and never again. What does run again
    is mapped anew from the page cache, which takes about two milliseconds in all. The cache itself
    is the system's: it keeps the file as long as there is room.
    """
    advise = getattr(ctypes.CDLL(None), "madvise", None)
    if advise is None or not _MAPPED.exists():
        return
    with _MAPPED.open() as lines:  # a hundred kilobytes
        for begin, end in untouched_code(lines, library):
            advise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), _DONT_NEED)


def untouched_code(smaps: Iterable[str], library: str) -> Iterator[tuple[int, int]]:
    """First address, and the one after the last, of code as the file of ``library`` has it.

    What was changed in memory, as by a debugger or a loader, would be lost.
    """
    place = ""
    for line in smaps:
        match line.split(maxsplit=5):
            case [found, "r-xp", _, _, _, path] if library in path:
                place = found
            case ["Anonymous:", changed, "kB"] if place:
                begin, _, end = place.partition("-")
                place = ""
                if changed == "0":
                    yield int(begin, 16), int(end, 16)

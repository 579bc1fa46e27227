# SPDX-License-Identifier: Apache-2.0
"""Imports libraries without what they import for features that fedmill never uses.

Measured on the agent daemon, whose budget is 75 MiB: asyncio under structlog 1.4 MiB, rich under
structlog 4 MiB, urllib.request (with http and email) under paho 3.4 MiB, typing_extensions under
msgspec 0.4 MiB.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def without(*, absent: Sequence[str] = (), empty: Sequence[str] = ()) -> Iterator[None]:
    """While this context lasts, modules that are not imported yet are out of reach.

    Args:
        absent: importing one of these fails, as if it were not installed.
        empty: importing one of these gives an empty module, for libraries that would not start
            without it but touch it only in functions that are never called.
    """
    hidden: dict[str, ModuleType | None] = {}
    hidden |= {name: None for name in absent if name not in sys.modules}
    hidden |= {name: ModuleType(name) for name in empty if name not in sys.modules}
    sys.modules.update(hidden)  # type: ignore[arg-type]  # None is how Python marks an absent one
    try:
        yield
    finally:
        for name, placeholder in hidden.items():
            if sys.modules.get(name) is placeholder:
                del sys.modules[name]

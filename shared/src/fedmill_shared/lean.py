# SPDX-License-Identifier: Apache-2.0
"""Imports libraries without what they import for features that fedmill never uses.

Measured on the agent daemon, whose budget is 75 MiB: asyncio under structlog 1.4 MiB, rich under
structlog 4 MiB, urllib.request (with http and email) under paho 3.4 MiB, ssl under paho 1.2 MiB,
inspect (with ast and dis) under dataclasses and numpy 1.1 MiB, typing_extensions under msgspec
0.4 MiB, pickle under numpy and structlog 0.3 MiB, ipaddress under urllib.parse, the texts of
numpy's ``help()`` and logging's side of structlog 0.2 MiB each, locale under subprocess 0.1 MiB.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any


class Later(ModuleType):
    """Stands for a module until somebody uses something of it; then that is imported.

    ``meanwhile`` has what may be asked for without the module itself, as long as nobody has
    imported it.
    """

    def __init__(self, name: str, meanwhile: Mapping[str, object]) -> None:
        super().__init__(name)
        self._meanwhile = meanwhile

    def __getattr__(self, name: str) -> Any:
        """What the module itself has."""
        if name == "__path__":  # only packages have it, and `from module import name` looks
            raise AttributeError(name)
        known = sys.modules.get(self.__name__)
        if name in self._meanwhile and known in (None, self):
            return self._meanwhile[name]
        if known is self:
            sys.modules.pop(self.__name__, None)
        found = getattr(import_module(self.__name__), name)
        setattr(self, name, found)  # so that the next look costs nothing
        return found


@contextmanager
def without(
    *,
    absent: Sequence[str] = (),
    empty: Sequence[str] = (),
    later: Mapping[str, Mapping[str, object]] | None = None,
) -> Iterator[None]:
    """While this context lasts, modules that are not imported yet are out of reach.

    Args:
        absent: importing one of these fails, as if it were not installed.
        empty: importing one of these gives an empty module, for libraries that would not start
            without it but touch it only in functions that are never called.
        later: importing one of these gives a ``Later`` with what stands for it meanwhile, for
            libraries that touch it only in functions that are seldom called.
    """
    hidden: dict[str, ModuleType | None] = {}
    hidden |= {name: None for name in absent if name not in sys.modules}
    hidden |= {name: ModuleType(name) for name in empty if name not in sys.modules}
    hidden |= {
        name: Later(name, own) for name, own in (later or {}).items() if name not in sys.modules
    }
    sys.modules.update(hidden)  # type: ignore[arg-type]  # None is how Python marks an absent one
    try:
        yield
    finally:
        for name, placeholder in hidden.items():
            if sys.modules.get(name) is placeholder:
                del sys.modules[name]

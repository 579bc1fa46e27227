# SPDX-License-Identifier: Apache-2.0
"""Where samples come from: one folder per kind, named like it; packages can add their own.

A folder's ``KIND`` is its manifest. Only the kinds that somebody names are imported: a gateway pays
in memory for what it reads and for nothing else.

A package that an operator installs adds a kind through an entry point of the group
``fedmill_agent.sources``: its name is the kind, its object a SourceKind.
"""

from collections.abc import Collection, Iterable
from functools import cache, reduce
from importlib import import_module
from operator import or_
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING

from fedmill_agent.sources.base import ReplayOptions, SourceKind, SourceOptions
from fedmill_shared.errors import ConfigError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from fedmill_agent.sources.live import Live

GROUP = "fedmill_agent.sources"

# what importing a foreign module is known to raise
_IMPORT_ERRORS = (
    ImportError,
    AttributeError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)


@cache
def builtin() -> frozenset[str]:
    """Names of the kinds that come with fedmill: the folders beside this file."""
    return frozenset(each.parent.name for each in Path(__file__).parent.glob("*/__init__.py"))


def kinds(
    names: Collection[str] | None = None, *, found: Iterable["EntryPoint"] | None = None
) -> dict[str, SourceKind]:
    """Kinds of source by name: the built-in ones and those of installed packages.

    Args:
        names: import only these, as far as they exist; None for all there are.
        found: entry points to add; None for those of the group ``fedmill_agent.sources``.

    Raises:
        ConfigError: an entry point cannot be loaded, is no SourceKind, or takes a name twice.
    """
    wanted = builtin() if names is None else builtin().intersection(names)
    result = {name: _builtin(name) for name in sorted(wanted)}
    if names is not None and builtin().issuperset(names):
        return result
    for point in _installed() if found is None else found:
        if point.name in builtin() or point.name in result:
            raise _broken(point, "there is already a source of this kind")
        if names is None or point.name in names:
            result[point.name] = _load(point)
    return result


def options_type(
    names: Collection[str] | None = None, *, found: Iterable["EntryPoint"] | None = None
) -> UnionType | type[SourceOptions]:
    """Union of the options of ``kinds``, for msgspec to decode a source by its ``kind``."""
    chosen = kinds(names, found=found).values()
    types: list[UnionType | type[SourceOptions]] = [kind.options for kind in chosen]
    return reduce(or_, types)


def kind_of(options: SourceOptions) -> SourceKind:
    """The kind that ``options`` belong to.

    Raises:
        ConfigError: no kind has options of this type.
    """
    name = str(options.__struct_config__.tag)
    kind = kinds([name]).get(name)
    if kind is None or not isinstance(options, kind.options):
        told = f"{type(options).__name__} belong to no source kind"
        raise ConfigError(f"source {options.name!r}: {told}")
    return kind


def live_of(options: SourceOptions) -> "Live":
    """How the live source with ``options`` is used.

    Raises:
        ConfigError: it is a recording.
    """
    live = kind_of(options).live
    if live is None:
        raise ConfigError(f"source {options.name!r} is a recording, and not live")
    return live


@cache
def _builtin(name: str) -> SourceKind:
    found: SourceKind = import_module(f"{__name__}.{name}").KIND
    return found


def _installed() -> Iterable["EntryPoint"]:
    from importlib.metadata import entry_points  # noqa: PLC0415  3 MiB that few gateways need

    return entry_points(group=GROUP)


def _load(point: "EntryPoint") -> SourceKind:
    try:
        kind = point.load()
    except _IMPORT_ERRORS as error:
        raise _broken(point, f"{type(error).__name__}: {error}") from error
    if not isinstance(kind, SourceKind):
        raise _broken(point, "it is not a SourceKind")
    if kind.options.__struct_config__.tag != point.name:
        raise _broken(point, f"its options have the tag {kind.options.__struct_config__.tag!r}")
    if kind.live is None and not issubclass(kind.options, ReplayOptions):
        raise _broken(point, "it is not live, and its options are no ReplayOptions")
    return kind


def _broken(point: "EntryPoint", why: str) -> ConfigError:
    return ConfigError(
        f"source kind {point.name!r} ({point.value}) cannot be used: {why}",
        remedy="update or uninstall the package that brings it",
    )

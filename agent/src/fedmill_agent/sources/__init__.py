# SPDX-License-Identifier: Apache-2.0
"""Where samples come from: one folder per kind, listed here; packages can add their own.

A package that an operator installs adds a kind through an entry point of the group
``fedmill_agent.sources``: its name is the kind, its object a SourceKind.
"""

from collections.abc import Iterable
from functools import reduce
from operator import or_
from types import UnionType
from typing import TYPE_CHECKING

from fedmill_agent.sources import cmapss, csv, mat, rig, tep
from fedmill_agent.sources.base import SourceKind, SourceOptions
from fedmill_shared.errors import ConfigError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "fedmill_agent.sources"

builtin: dict[str, SourceKind] = {
    "cmapss": cmapss.KIND,
    "csv": csv.KIND,
    "mat": mat.KIND,
    "rig": rig.KIND,
    "tep": tep.KIND,
}

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


def kinds(found: Iterable["EntryPoint"] | None = None) -> dict[str, SourceKind]:
    """Every kind of source by name: the built-in ones and those of installed packages.

    Args:
        found: entry points to add; None for those of the group ``fedmill_agent.sources``.

    Raises:
        ConfigError: an entry point cannot be loaded, is no SourceKind, or takes a name twice.
    """
    result = dict(builtin)
    for point in _installed() if found is None else found:
        if point.name in result:
            raise _broken(point, "there is already a source of this kind")
        result[point.name] = _load(point)
    return result


def options_type(found: Iterable["EntryPoint"] | None = None) -> UnionType | type[SourceOptions]:
    """Union of the options of every kind, for msgspec to decode a source by its ``kind``."""
    types: list[UnionType | type[SourceOptions]] = [k.options for k in kinds(found).values()]
    return reduce(or_, types)


def kind_of(options: SourceOptions) -> SourceKind:
    """The kind that ``options`` belong to.

    Raises:
        ConfigError: no kind has options of this type.
    """
    for table in (builtin, None):
        for kind in (kinds() if table is None else table).values():
            if isinstance(options, kind.options):
                return kind
    raise ConfigError(f"source {options.name!r}: {type(options).__name__} belong to no source kind")


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
    return kind


def _broken(point: "EntryPoint", why: str) -> ConfigError:
    return ConfigError(
        f"source kind {point.name!r} ({point.value}) cannot be used: {why}",
        remedy="update or uninstall the package that brings it",
    )

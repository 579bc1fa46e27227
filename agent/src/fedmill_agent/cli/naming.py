# SPDX-License-Identifier: Apache-2.0
"""Errors of a source that name it: a configuration may have several with one address."""

from collections.abc import Iterator
from contextlib import contextmanager

from fedmill_agent.sources.base import SourceOptions
from fedmill_shared.errors import FedmillError
from fedmill_shared.signals.units import canonical


@contextmanager
def naming(source: SourceOptions) -> Iterator[None]:
    """Within it, errors that do not name ``source`` are raised again, and do.

    Raises:
        FedmillError: what was raised within, of the same class.
    """
    try:
        yield
    except FedmillError as error:
        if repr(source.name) in error.message:
            raise
        told = f"source {source.name!r}: {error.message}"
        raise type(error)(told, remedy=error.remedy) from error


def check_units(source: SourceOptions) -> None:
    """Look up the units that ``source`` has its signals in, whatever job they are for.

    Raises:
        SchemaError: one is unknown.
    """
    for signal, unit in source.units.items():
        try:
            canonical(unit)
        except FedmillError as error:
            told = f"source {source.name!r}: signal {signal!r}: {error.message}"
            raise type(error)(told, remedy=error.remedy) from error

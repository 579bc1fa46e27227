# SPDX-License-Identifier: Apache-2.0
"""Modbus TCP: registers and coils of controllers, drives and meters. It reads and never writes."""

from collections.abc import Iterator, Sequence

from fedmill_agent.sources.base import SourceKind, SourceOptions, lacking, narrow
from fedmill_agent.sources.live import Found, Live, Session
from fedmill_agent.sources.modbus.options import ModbusOptions
from fedmill_shared.clock import Clock


def _open(options: SourceOptions, tags: Sequence[str], clock: Clock) -> Session:
    own = narrow(options, ModbusOptions)
    try:
        from fedmill_agent.sources.modbus.opening import open_session  # noqa: PLC0415  an extra
    except ImportError as error:
        raise lacking(own, "modbus", error) from error
    return open_session(own, tags, clock)


def _discover(options: SourceOptions, clock: Clock) -> Iterator[Found]:
    own = narrow(options, ModbusOptions)
    try:
        from fedmill_agent.sources.modbus.scan import discover  # noqa: PLC0415  an extra
    except ImportError as error:
        raise lacking(own, "modbus", error) from error
    yield from discover(own, clock)


KIND = SourceKind(ModbusOptions, live=Live(_open, _discover))

# SPDX-License-Identifier: Apache-2.0
"""From options and tags to a session that is connected."""

from collections import Counter
from collections.abc import Sequence
from random import Random

from fedmill_agent.sources.modbus.declaration import Register
from fedmill_agent.sources.modbus.health import Health, Limits
from fedmill_agent.sources.modbus.notation import from_text
from fedmill_agent.sources.modbus.options import ModbusOptions
from fedmill_agent.sources.modbus.poller import Poller
from fedmill_agent.sources.modbus.session import ModbusSession
from fedmill_agent.sources.modbus.wire import connect
from fedmill_shared.clock import Clock


def open_session(options: ModbusOptions, tags: Sequence[str], clock: Clock) -> ModbusSession:
    """Connect, to read ``tags``.

    A tag that is not among ``registers`` may be a declaration itself, as ``discover`` finds them.

    Raises:
        SourceError: the server cannot be reached.
    """
    known, registers = options.declared, list[Register]()
    problems: dict[str, str] = {}
    for tag in dict.fromkeys(tags):
        try:
            registers.append(known[tag] if tag in known else from_text(tag, tag, options.defaults))
        except ValueError:
            problems[tag] = f"no register {tag!r} is declared: add it to `registers`"
    poller = make_poller(options, registers, clock, Counter())
    poller.health.problems.update(problems)
    return ModbusSession(
        connect(options.host, options.port, poller.counts),
        poller,
        clock,
        interval=options.interval_seconds,
        timeout=options.timeout_seconds,
    )


def make_poller(
    options: ModbusOptions, registers: Sequence[Register], clock: Clock, counts: Counter[str]
) -> Poller:
    """A poller of ``registers`` that adds to ``counts``."""
    limits = Limits(
        largest_gap=options.largest_gap,
        largest_read=options.largest_read,
        first_pause=max(2.0 * options.interval_seconds, 4.0 * options.timeout_seconds),
        device_pause=options.device_retry_seconds,
        register_pause=options.register_retry_seconds,
    )
    health = Health(registers, limits, Random(), counts)
    return Poller(registers, health, clock, counts, run_tag=options.run_tag)

# SPDX-License-Identifier: Apache-2.0
"""``fedmill-agent check`` for live sources: connect, read some seconds, and say what is wrong."""

from collections.abc import Mapping
from itertools import islice

from msgspec.structs import replace

from fedmill_agent.cli.naming import check_units, naming
from fedmill_agent.cli.observe import look
from fedmill_agent.cli.verdict import Mapped, faults_of, line_of
from fedmill_agent.cutter import map_source
from fedmill_agent.sources import live_of
from fedmill_agent.sources.base import SourceOptions, narrow
from fedmill_agent.sources.live import LiveOptions
from fedmill_agent.sources.modbus.options import ModbusOptions
from fedmill_agent.sources.wanted import wanted_of
from fedmill_shared.clock import Clock
from fedmill_shared.errors import SourceError
from fedmill_shared.job import Job
from fedmill_shared.printable import printable

MOST_TAGS = 1000
"""Tags that are counted of a source that maps none."""
MOST_COLUMNS = 40
"""To which tags are filled up, so that values stand below each other."""


def check_live(source: SourceOptions, job: Job | None, clock: Clock) -> None:
    """Show what a live ``source`` delivers, to ``job`` if there is one.

    Raises:
        SchemaError: it does not fit the job, or a unit is unknown.
        SourceError: it cannot be reached, or something is wrong with what it delivers.
        ConfigError: its options can never work, or its library is not installed.
    """
    check_units(source)
    with naming(source):
        mapped = _mapped(source, job)
        if mapped:
            _read(source, mapped, clock)
        else:
            _knock(source, clock)


def _knock(source: SourceOptions, clock: Clock) -> None:
    """Whether a source that maps no tags can be reached at all; nothing is searched."""
    discover, found = live_of(source).discover, ""
    if isinstance(source, ModbusOptions):
        source = replace(source, scan="")  # some old devices take that for a fault
    if discover is not None:
        found = _counted(sum(1 for _ in islice(discover(source, clock), MOST_TAGS)))
    print(
        f"source {source.name}: {found}maps no tags, give --job to read it for a job; "
        "`fedmill-agent discover` lists its tags"
    )


def _counted(tags: int) -> str:
    more = "at least " if tags == MOST_TAGS else ""
    many = "1 tag" if tags == 1 else f"{tags} tags"
    return f"connected, {more}{many}; " if tags else "connected; "


def _read(source: SourceOptions, mapped: list[Mapped], clock: Clock) -> None:
    """Read what is mapped for some seconds, and say what is wrong.

    Raises:
        SourceError: it cannot be reached, or something is wrong with what it delivers.
    """
    run_tag = narrow(source, LiveOptions).run_tag
    seen = look(
        source,
        [*(each.tag for each in mapped), *([run_tag] if run_tag else [])],
        clock,
        plausible={each.tag: each.plausible for each in mapped if each.plausible},
    )
    dropped = ", ".join(f"{reason} {n}" for reason, n in sorted(seen.dropped.items()) if n)
    print(
        f"source {source.name}: connected, read for {seen.seconds:.0f} s"
        + (f"; left out: {dropped}" if dropped else "")
    )
    faults = list[str]()
    widest = min(MOST_COLUMNS, max(len(each.tag) for each in mapped))
    for each in mapped:
        print(f"  {printable(line_of(each, seen, widest))}")
        faults += list(faults_of(source, each, seen))
    if run_tag in seen.problems:
        faults.append(f"run_tag {run_tag!r}: {seen.problems[run_tag]}")
    faults = [printable(fault) for fault in faults]
    for fault in faults:
        print(f"  wrong: {fault}")
    if faults:
        more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise SourceError(f"source {source.name!r}: {faults[0]}{more}")


def _mapped(source: SourceOptions, job: Job | None) -> list[Mapped]:
    if job is None:
        return [
            Mapped(
                name,
                tag,
                source.units.get(name, ""),
                source.scales.get(name, 1.0),
                source.offsets.get(name, 0.0),
            )
            for name, tag in _own_tags(source).items()
        ]
    mapping = map_source(job.name, job.signals, source)
    wanted_of(source, job.signals, mapping.tags)
    return [
        Mapped(
            signal.name,
            tag,
            source.units.get(signal.name, signal.unit),
            float(factor),
            float(offset),
            signal,
            source.scales.get(signal.name, 1.0),
            source.offsets.get(signal.name, 0.0),
        )
        for signal, tag, factor, offset in zip(
            job.signals, mapping.tags, mapping.factor[:, 0], mapping.offset[:, 0], strict=True
        )
    ]


def _own_tags(source: SourceOptions) -> Mapping[str, str]:
    """Signal -> tag, as the configuration maps them; else the registers that it declares."""
    if not source.tags and isinstance(source, ModbusOptions):
        return {tag: tag for tag in source.declared}
    return source.tags

# SPDX-License-Identifier: Apache-2.0
"""``fedmill-agent discover``: the tags that a live source offers."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice

import msgspec

from fedmill_agent.cli import config_argument
from fedmill_agent.cli.naming import naming
from fedmill_agent.config import AgentConfig, load
from fedmill_agent.sources import kind_of, live_of
from fedmill_agent.sources.base import SourceOptions
from fedmill_agent.sources.live import Found
from fedmill_shared.clock import SystemClock
from fedmill_shared.errors import UsageError
from fedmill_shared.printable import printable

MOST_TAGS = 100_000
_WIDEST = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    config_argument(parser)
    parser.add_argument("--source", default="", help="only this one; default: every live source")
    parser.add_argument("--find", default="", help="only tags that contain this text")
    parser.add_argument("--json", action="store_true", help="one JSON object for each tag")


def run(options: argparse.Namespace) -> int:
    """List the tags of the live sources of a configuration.

    Raises:
        UsageError: it has no such live source.
        SourceError: one cannot be reached.
        ConfigError: the configuration is wrong, or a library is not installed.
    """
    config = load(options.config)
    for source in _chosen(config, options.source):
        with naming(source):
            found = list(islice(_matching(source, options.find), MOST_TAGS))
        if options.json:
            for tag in found:
                print(msgspec.json.encode({"source": source.name} | asdict(tag)).decode())
        else:
            _show(source, found, options.find)
    return 0


def _chosen(config: AgentConfig, name: str) -> list[SourceOptions]:
    live = [each for each in config.sources if kind_of(each).live is not None]
    names = ", ".join(each.name for each in live) or "none"
    chosen = [each for each in live if not name or each.name == name]
    if not chosen:
        wanted = f"source {name!r}" if name else "source"
        raise UsageError(
            f"the configuration has no live {wanted}",
            remedy=f"live sources in it: {names}; `fedmill-agent check` tells of recordings",
        )
    return chosen


def _matching(source: SourceOptions, text: str) -> Iterator[Found]:
    discover = live_of(source).discover
    if discover is None:
        kind = source.__struct_config__.tag
        raise UsageError(
            f"source {source.name!r}: a source of kind {kind} cannot list its tags",
            remedy="look them up in the device's documentation",
        )
    for found in discover(source, SystemClock()):
        if text.lower() in found.tag.lower() or text.lower() in found.note.lower():
            yield found


def _show(source: SourceOptions, found: Sequence[Found], text: str) -> None:
    matching = f" with {text!r}" if text else ""
    many = "1 tag" if len(found) == 1 else f"{len(found)} tags"
    print(f"source {source.name}: {many}{matching}")
    rows = [
        [
            printable(cell)
            for cell in (each.tag, each.type, f"{each.value} {each.unit}".strip(), _noted(each))
        ]
        for each in found
    ]
    if not rows:
        return
    widths = [min(_WIDEST, max(map(len, column))) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(f"  {'  '.join(cells).rstrip()}")


def _noted(found: Found) -> str:
    output = "output" if found.writable else ""
    return ", ".join(filter(None, (output, found.note)))

# SPDX-License-Identifier: Apache-2.0
"""What comes from the ``[[labels]]`` of a configuration: each is read for a moment."""

from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from msgspec.structs import replace

from fedmill_agent.labels.decode import MOST_LABELS, Decoded, Shape
from fedmill_agent.labels.feed import Open
from fedmill_agent.labels.options import CsvLabels, LabelOptions, MqttLabels
from fedmill_agent.labels.suited import refusal
from fedmill_agent.sources.files import shorten
from fedmill_shared.clock import Clock
from fedmill_shared.errors import DataError
from fedmill_shared.job import Job

LISTEN_SECONDS = 2.0
MOST_SECONDS = 10.0
"""How long is waited for the first labels, and how long for more."""
MOST_REASONS = 5


def check_labelling(options: LabelOptions, agent: str, job: Job | None, clock: Clock) -> None:
    """Open what ``options`` name, and print what comes within some seconds.

    Raises:
        FedmillError: it cannot be opened or read, or nothing of what it says is a label.
    """
    if isinstance(options, MqttLabels):  # beside the daemon, whose session is left alone
        options = replace(options, client_id=f"{agent}.check", keep_seconds=0)
    found = _read(options, clock)
    missing = isinstance(options, CsvLabels) and not Path(options.path).exists()
    amount = "the file is not there yet" if missing else f"{len(found.records)} labels"
    print(f"labels {options.name}: {amount}")
    for line in _fates(found, job):
        print(f"  {line}")
    if found.faults:
        first, more = found.faults[0], found.wrong - 1
        told = f"labels {options.name}: {first.message}" + (f"; {more} more" if more else "")
        raise DataError(told, remedy=first.remedy)


def _read(options: LabelOptions, clock: Clock) -> Decoded:
    kind = str(options.__struct_config__.tag)
    opened: Open = import_module(f"fedmill_agent.labels.{kind}").open_labels
    shape = Shape(options.fields, options.unit, options.job)
    source = opened(options, shape, clock)
    found, begin = Decoded(), clock.monotonic()
    try:
        while clock.monotonic() - begin < MOST_SECONDS:
            came = source.read(0.2)
            found.join(came)
            if len(found.records) >= MOST_LABELS:
                break
            if not (came.records or came.faults) and (
                found.records or found.faults or clock.monotonic() - begin > LISTEN_SECONDS
            ):
                break
    finally:
        source.close()
    return found


def _fates(found: Decoded, job: Job | None) -> Iterator[str]:
    """How many of the labels ``job`` can use, and why not the others."""
    if job is None or not found.records:
        return
    asked = [record for record in found.records if record.job in ("", job.name)]
    reasons = Counter(refusal(job, record) for record in asked)
    usable = reasons.pop("", 0)
    others = len(found.records) - len(asked)
    yield f"{usable} for job {job.name}" + (f", {others} for other jobs" if others else "")
    if reasons:
        named = [f"{reason} ({count})" for reason, count in reasons.most_common()]
        yield f"missing: {shorten(named, MOST_REASONS)}"

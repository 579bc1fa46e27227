# SPDX-License-Identifier: Apache-2.0
"""Alarms of a job that are raised, for people: what ``status`` shows."""

from collections.abc import Iterator

from fedmill_agent.alarms.book import FILE, active, read
from fedmill_agent.alarms.record import AlarmRecord
from fedmill_agent.cli.meaning import quantity, utc
from fedmill_agent.places import job_folder
from fedmill_shared.errors import FedmillError

MOST_SHOWN = 5
MOST_LISTED = 100
"""Alarms in the JSON of one job."""


def read_alarms(state: str, name: str) -> list[AlarmRecord] | str:
    """Alarms that are raised, the newest first; or why they cannot be read."""
    try:
        return active(read(job_folder(state, name) / FILE))
    except FedmillError as error:
        return str(error)


def listed(found: list[AlarmRecord] | str) -> list[AlarmRecord] | str:
    """The same for other programs, with a bounded number of alarms."""
    return found if isinstance(found, str) else found[:MOST_LISTED]


def alarm_lines(found: list[AlarmRecord] | str) -> Iterator[str]:
    """The same in words, no line where none is raised."""
    if isinstance(found, str):
        yield f"alarms unknown: {found}"
        return
    for record in found[:MOST_SHOWN]:
        yield f"ALARM {record.alarm} ({record.severity}), {record.unit}, since {_said(record)}"
        if record.cause:
            yield f"because {record.cause}"
        if record.remedy:
            yield f"to do: {record.remedy}"
    if len(found) > MOST_SHOWN:
        yield f"and {len(found) - MOST_SHOWN} alarms more"


def _said(record: AlarmRecord) -> str:
    when = utc(record.since_ns)
    if record.value is None:
        sure = "" if record.confidence is None else f" ({100 * record.confidence:.1f} %)"
        return f"{when}: {record.predicted}{sure}"
    between = ""
    if record.low is not None and record.high is not None:
        between = f" ({record.low:.6g} to {record.high:.6g})"
    return f"{when}: {quantity(record.value, record.value_unit)}{between}"

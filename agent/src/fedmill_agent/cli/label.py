# SPDX-License-Identifier: Apache-2.0
"""``fedmill-agent label``: say what was true, correct it, and see what became of it."""

import argparse
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from fedmill_agent.audited import audit_log
from fedmill_agent.cli import config_argument
from fedmill_agent.cli.label_report import accepted_job, read_report, report_lines
from fedmill_agent.cli.meaning import utc
from fedmill_agent.config import AgentConfig, load
from fedmill_agent.labels import spool
from fedmill_agent.labels.book import read_book
from fedmill_agent.labels.cells import LabelTable
from fedmill_agent.labels.decode import MOST_LABELS, Decoded, from_json, label_of
from fedmill_agent.labels.record import Entry, Label, LabelRecord, settled
from fedmill_agent.labels.suited import refusal
from fedmill_agent.places import labels_file, labels_folder
from fedmill_agent.sources.csv.cells import Dialect
from fedmill_agent.sources.files import lines, open_binary
from fedmill_agent.status import is_alive, read_status
from fedmill_shared.audit.person import who
from fedmill_shared.clock import SystemClock
from fedmill_shared.errors import DataError, FedmillError, StoreError, UsageError
from fedmill_shared.files import make_folder
from fedmill_shared.job import Job

LAST = 20
"""Labels that are listed."""
MOST_BYTES = 16 << 20
_ABOUT = ("unit", "part", "batch", "job", "id")
_TIMES = {"start": "from", "end": "to", "made": "made"}
_FIELDS = {
    "the label `start`": "--from",
    "the label `end`": "--to",
    "the label `made`": "--made",
    "`start`": "--from",
    "`end`": "--to",
    "`unit`": "--unit",
    "`value`": "--value",
    "`deleted`": "--delete",
}
_FILE_OPTIONS = {
    'write decimal = "," below the source': 'give --decimal ","',
    "tell `delimiter` or `fields`": "give --delimiter",
}
"""What files and configurations call a thing, and the option that is meant here."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    config_argument(parser)
    parser.add_argument("--unit", default="", help="the machine")
    parser.add_argument("--part", default="", help="the part in it")
    parser.add_argument("--batch", default="", help="the batch in it")
    parser.add_argument("--from", dest="start", help="ISO 8601 or unix seconds")
    parser.add_argument("--to", dest="end", help="the same; without it a moment is meant")
    parser.add_argument("--class", dest="text", help="what was true, for classes, or an event")
    parser.add_argument("--value", type=_number, help="what was true, for numbers")
    parser.add_argument("--start-value", type=_number, help="the number at --from")
    parser.add_argument("--job", default="", help="the job that it is for; without it every job")
    parser.add_argument("--id", default="", help="identity, for corrections")
    parser.add_argument("--revision", type=int, help="larger ones replace smaller ones")
    parser.add_argument("--made", help="when it was determined; without it now")
    parser.add_argument("--delete", action="store_true", help="withdraw the label")
    parser.add_argument("--file", type=Path, help="many labels: .csv or .json")
    parser.add_argument("--delimiter", default=",", help="of a .csv file (,)")
    parser.add_argument("--decimal", default=".", choices=[".", ","], help="of a .csv file (.)")
    parser.add_argument("--list", action="store_true", help="the newest labels, and their fate")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        told = f"{text!r} is not a number such as 3.25"
        raise argparse.ArgumentTypeError(told) from error


def run(options: argparse.Namespace) -> int:
    """Hand labels over to the daemon, or list them.

    Raises:
        ConfigError: the configuration is wrong.
        UsageError: the options do not go together.
        DataError: a label says nothing, or a job that it names cannot use it.
        StoreError: the state folder cannot be used, or it cannot be recorded who gives them.
    """
    config = load(options.config)
    if options.list:
        _list(config, as_json=options.json)
        return 0
    now_ns = time.time_ns()
    records = [_dated(record, now_ns) for record in _given(options)]
    notes = _notes(config, records)
    labels = [label_of(record) for record in records]
    _put_down(config, records)
    spool.hand_over(labels_folder(config.agent.state), labels, now_ns)
    running = _running(config)
    if options.json:
        ids = [record.id for record in records]
        body = {"labels": len(records), "ids": ids, "running": running, "notes": notes}
        print(msgspec.json.encode(body).decode())
        return 0
    many = "1 label" if len(records) == 1 else f"{len(records)} labels"
    when = "within two seconds" if running else "once it is started"
    print(f"{many} left for agent {config.agent.id}, which takes them {when}")
    for note in notes:
        print(f"  note: {note}")
    return 0


def _put_down(config: AgentConfig, records: Sequence[LabelRecord]) -> None:
    """Record who gives labels: all by their identities, a single one with what it says."""
    first, last, single = records[0], records[-1], len(records) == 1
    make_folder(Path(config.agent.state))
    audit_log(config.agent, SystemClock()).record(
        who=who(),
        what="labels.given",
        subject=first.id if single else f"{len(records)} labels, {first.id} to {last.id}",
        after=first.truth if single else "",
    )


def _given(options: argparse.Namespace) -> list[LabelRecord]:
    """What the command line or the file says.

    Raises:
        UsageError: both, or neither.
        DataError: a label is wrong; none is handed over then.
    """
    single = any(
        getattr(options, name) not in ("", None)
        for name in (*_ABOUT, *_TIMES, "text", "value", "start_value", "revision")
    )
    if options.file is None:
        if not single:
            raise UsageError("no label is given", remedy="give --unit, --from, --to and --class")
        return [_single(options)]
    if single or options.delete:
        raise UsageError("--file and a label are given", remedy="give one of the two")
    found = _from_file(options)
    if found.faults:
        more = f"; {found.wrong - 1} more are wrong" if found.wrong > 1 else ""
        first = _in_options(found.faults[0], _FILE_OPTIONS)
        raise DataError(first.message + more, remedy=first.remedy)
    if not found.records:
        raise DataError(f"{options.file}: has no label", remedy="write one label a line")
    return found.records


def _single(options: argparse.Namespace) -> LabelRecord:
    label = Label(
        **{name: getattr(options, name) for name in _ABOUT},
        **{name: getattr(options, name) for name in _TIMES},
        class_=options.text or "",
        value=options.value,
        start_value=options.start_value,
        revision=options.revision or 0,
        deleted=options.delete,
    )
    try:
        return settled(label, "command line")
    except DataError as error:
        raise _in_options(error, _FIELDS) from error


def _in_options(error: DataError, names: Mapping[str, str]) -> DataError:
    """``error`` with the options of this command in place of what ``names`` lists."""
    message, remedy = error.message, error.remedy
    for name, option in names.items():
        message, remedy = message.replace(name, option), remedy.replace(name, option)
    return DataError(message, remedy=remedy)


def _from_file(options: argparse.Namespace) -> Decoded:
    path: Path = options.file
    if path.suffix == ".json":
        with open_binary(str(path)) as file:
            return from_json(file.read(MOST_BYTES + 1), str(path))
    if path.suffix != ".csv":
        raise UsageError(f"--file {path}: is neither .csv nor .json", remedy="rename it")
    if len(options.delimiter) != 1:
        raise UsageError(f"--delimiter {options.delimiter!r}: give one character")
    found = Decoded()
    table = LabelTable(str(path), Dialect(options.delimiter, options.decimal))
    for number, line in lines(str(path)):
        try:
            record = table.take(number, line)
        except DataError as error:
            found.refuse(error)
        else:
            found.records += [record] if record is not None else []
        if len(found.records) > MOST_LABELS:
            raise DataError(
                f"{path}: has more than {MOST_LABELS} labels, as many as an agent keeps",
                remedy="give the newest ones",
            )
    return found


def _dated(record: LabelRecord, now_ns: int) -> LabelRecord:
    """``record``, made now if nobody tells: who says it again later means that."""
    if record.made_ns is not None:
        return record
    return msgspec.structs.replace(record, made_ns=now_ns)


def _notes(config: AgentConfig, records: Sequence[LabelRecord]) -> list[str]:
    """Labels that no job of the agent can use, as far as it has jobs.

    Raises:
        DataError: a label names a job, and that cannot use it.
    """
    jobs = _jobs(config)
    notes: dict[str, int] = {}
    for record in records:
        asked = [job for job in jobs if record.job in ("", job.name)]
        reasons = {job.name: refusal(job, record) for job in asked}
        if record.job and reasons.get(record.job):
            told = f"label {record.id}: job {record.job} refuses it: {reasons[record.job]}"
            raise DataError(told, remedy="correct the label, or leave --job out")
        if record.job and not asked:
            note = f"the agent has no job {record.job} yet"
            notes[note] = notes.get(note, 0) + 1
        elif reasons and all(reasons.values()):
            note = "; ".join(f"job {name} refuses it: {why}" for name, why in reasons.items())
            notes[note] = notes.get(note, 0) + 1
    return [note if count == 1 else f"{note} ({count} labels)" for note, count in notes.items()]


def _jobs(config: AgentConfig) -> list[Job]:
    found = []
    for path in sorted(Path(config.agent.state).glob("jobs/*/job.json")):
        with suppress(FedmillError):  # the daemon says so
            found.append(accepted_job(config.agent.state, path.parent.name))
    return [job for job in found if job is not None]


def _running(config: AgentConfig) -> bool:
    try:
        return is_alive(read_status(Path(config.agent.state)))
    except StoreError:
        return False


def _list(config: AgentConfig, *, as_json: bool) -> None:
    state = config.agent.state
    count, newest = read_book(labels_file(state), LAST)
    waiting = len(spool.waiting(labels_folder(state)))
    names = [job.name for job in _jobs(config)]
    if as_json:
        body = {
            "labels": count,
            "waiting_files": waiting,
            "newest": [_plain(entry) for entry in newest],
            "jobs": {name: read_report(state, name) for name in names},
        }
        print(msgspec.json.encode(body).decode())
        return
    print(f"{count} labels" + (f", {waiting} files wait for the agent" if waiting else ""))
    for entry in newest:
        print(f"  {_line(entry)}")
    for name in names:
        print(f"job {name}")
        for line in [*report_lines(state, name)] or ["no labels"]:
            print(f"  {line}")


def _line(entry: Entry) -> str:
    record = entry.record
    about = "/".join(filter(None, (record.unit, record.piece)))
    times = "" if record.start_ns is None else f" {_interval(record)}"
    job = f", for job {record.job}" if record.job else ""
    revision = f", revision {record.revision}" if record.revision else ""
    corrected = f", corrected {entry.changes} times" if entry.changes else ""
    arrived = utc(entry.arrived_ns)
    return f"{about}{times}: {record.truth}{job}{revision}{corrected}; came {arrived} [{record.id}]"


def _interval(record: LabelRecord) -> str:
    start, end = utc(record.start_ns or 0), utc(record.end_ns or 0)
    return start if start == end else f"{start} to {end}"


def _plain(entry: Entry) -> dict[str, object]:
    label = msgspec.to_builtins(label_of(entry.record))
    return {**label, "arrived": utc(entry.arrived_ns), "changes": entry.changes}

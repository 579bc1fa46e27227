# SPDX-License-Identifier: Apache-2.0
"""``fedmill-agent status``: what the daemon last said of itself, and what its model said."""

import argparse
import textwrap
import time
from pathlib import Path

import msgspec
from msgspec import Struct

from fedmill_agent.cli import config_argument
from fedmill_agent.cli.alarm_report import alarm_lines, listed, read_alarms
from fedmill_agent.cli.drift_lines import drift_lines
from fedmill_agent.cli.feedback_line import feedback_lines
from fedmill_agent.cli.identity_lines import identity_lines
from fedmill_agent.cli.label_report import read_report, report_lines
from fedmill_agent.cli.meaning import meaning, quantity, utc
from fedmill_agent.cli.own_model_lines import SHORT, own_model_lines
from fedmill_agent.cli.stores import disk_in_words, read_samples, samples_in_words
from fedmill_agent.config import AgentConfig, load
from fedmill_agent.cutter import told_faults
from fedmill_agent.places import job_folder, windows_file
from fedmill_agent.sources.state import Standing
from fedmill_agent.status import Status, is_alive, read_status
from fedmill_agent.store.predictions import Prediction
from fedmill_agent.store.reader import WindowReader
from fedmill_shared.errors import FedmillError, StoreError
from fedmill_shared.job import Job
from fedmill_shared.job_check import job_from_canonical
from fedmill_shared.messages import InstallState, JobPhase
from fedmill_shared.printable import printable

NOT_RUNNING = 3
LAST = 5
"""Predictions that are shown of each job."""
COLUMNS = 80
_INDENT = 11
_CLASS = 18
_VALUE = 27


class Predictions(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the window store of one job holds of its model's predictions.

    Attributes:
        stored: how many.
        last: the newest of them, the oldest first: run, end, version, scored, what it
            says, and how sure that is.
        discarded: windows that the store gave up, ever.
        error: why they cannot be read.
    """

    stored: int
    last: list[dict[str, str | float]]
    discarded: int = 0
    error: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    config_argument(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Print the status; exit code 3 if the daemon is not running.

    Raises:
        ConfigError: the configuration is wrong.
        StoreError: the agent never ran.
    """
    config = load(options.config)
    status = read_status(Path(config.agent.state))
    running = is_alive(status)
    predictions = {name: read_predictions(config.agent.state, name) for name in status.state.jobs}
    alarms = {name: read_alarms(config.agent.state, name) for name in status.state.jobs}
    samples = read_samples(config.agent.state)
    if options.json:
        body = msgspec.to_builtins(status) | {
            "agent": config.agent.id,
            "running": running,
            "predictions": msgspec.to_builtins(predictions),
            "alarms": {name: listed(found) for name, found in alarms.items()},
            "labels": {name: read_report(config.agent.state, name) for name in predictions},
            "samples": msgspec.to_builtins(samples),
        }
        print(msgspec.json.encode(body).decode())
    else:
        _show_daemon(config, status, running=running)
        for name, standing in status.sources.items():
            _show_source(name, standing)
        for name, recorded in samples.items():
            _show("samples", f"{name}: {samples_in_words(recorded)}")
        for name, phase in status.state.jobs.items():
            _show_job(name, phase)
            own = own_model_lines(config.agent.state, name)
            drift = drift_lines(status.drift[name]) if name in status.drift else ()
            feedback = feedback_lines(config.agent.state, name)
            for line in (*own, *drift, *alarm_lines(alarms[name]), *feedback):
                _show("", line)
            _show_predictions(predictions[name])
            for line in report_lines(config.agent.state, name):
                _show("", line)
    return 0 if running else NOT_RUNNING


def read_predictions(state: str, name: str) -> Predictions:
    """Predictions of the job ``name`` in the state folder; a fault is told, and hides no other job.

    None are stored before the job was accepted, or since its signals, window or labels changed.
    """
    path = job_folder(state, name) / "job.json"
    try:
        job = job_from_canonical(path.read_bytes())
        windows = windows_file(state, job)
        if not windows.exists():
            return Predictions(stored=0, last=[])
        with WindowReader(windows) as reader:
            last = [_in_words(prediction, job) for prediction in reader.predictions(LAST)]
            count, discarded = reader.prediction_count(), reader.discarded
            return Predictions(stored=count, last=last, discarded=discarded)
    except FileNotFoundError:
        return Predictions(stored=0, last=[])
    except OSError as problem:
        error: FedmillError = StoreError(f"{path}: cannot be read: {problem.strerror}")
    except FedmillError as problem:
        error = problem
    return Predictions(stored=0, last=[], error=str(error))


def _in_words(prediction: Prediction, job: Job) -> dict[str, str | float]:
    body: dict[str, str | float] = {"run": prediction.run, "end": utc(prediction.end_ns)}
    body |= meaning(prediction.outputs, job.labels.classes, job.labels.unit)
    for name in ("confidence", "low", "high"):
        known = getattr(prediction, name)
        body |= {} if known is None else {name: known}
    if job.labels.classes and prediction.confidence is not None:
        body["probability"] = prediction.confidence
    return body | {"version": prediction.version, "scored": utc(prediction.scored_ns)}


def _show_config(status: Status) -> None:
    """What became of the configuration since the start, and whether what is signed is good."""
    if status.config.error:
        _show("config", f"the changed file is not in use: {status.config.error}")
    if status.config.remote:
        _show("config", f"from afar: {status.config.remote}")
    if status.config.remote_error:
        _show("config", f"not in use: {status.config.remote_error}")
    if status.state.trust:
        _show("trust", status.state.trust)
    if status.config.restart_required:
        _show("config", f"restart required: {', '.join(status.config.restart_required)}")


def _show_daemon(config: AgentConfig, status: Status, *, running: bool) -> None:
    age = (time.time_ns() - status.state.sent_ns) / 1e9
    alive = "running" if running else "not running"
    trainer = f"pid {status.trainer_pid}" if status.trainer_pid and running else "not running"
    _show("agent", config.agent.id)
    _show("daemon", f"{alive}, pid {status.pid}, {age:.0f} s ago")
    if status.state.safe_mode and running:
        _show("safe mode", status.state.safe_mode)
    _show("broker", "connected" if status.connected and running else "not connected")
    if status.rights is not None and running:
        answers = "answers" if status.rights.echoed else "has not answered yet"
        _show("", f"{status.rights.words}; the coordinator {answers}")
        if status.rights.trouble:
            _show("", f"{status.rights.trouble}: {status.rights.remedy}")
    for line in identity_lines(status.identity):
        _show("identity", line)
    _show("trainer", trainer)
    _show("memory", f"{status.state.resident_bytes / 2**20:.0f} MiB")
    if status.disk is not None:
        _show("disk", disk_in_words(status.disk))
    if status.audit_lost and running:
        _show("audit log", f"{status.audit_lost} records could not be written; see `audit.failed`")
    _show_config(status)


def _show_source(name: str, source: Standing) -> None:
    """A live source: whether it delivers, how much, and what was left out."""
    reached = source.phase in ("starting", "running")
    why = f": {source.error}" if source.error and not reached else ""
    _show("source", f"{name}: {source.phase}{why}")
    lost = ", ".join(f"{reason} {number}" for reason, number in sorted(source.dropped.items()))
    newest = f"newest {utc(source.last_ns)}" if source.last_ns else "nothing good yet"
    counts = f"{source.readings} values, {source.bad} bad, {source.stale} stale; {newest}"
    _show("", f"{counts}; connected {source.connections} times")
    if lost:
        _show("", f"left out: {lost}")
    for tag, problem in source.problems.items():
        _show("", f"tag {tag}: {problem}")


def _show_job(name: str, job: JobPhase) -> None:
    windows = ", ".join(f"{count} {split}" for split, count in job.windows.items())
    held = f"; does not train: {job.ineligible}" if job.ineligible else ""
    _show("job", f"{name}: {job.phase}, model {job.version[:SHORT] or 'none yet'}{held}")
    why = f" ({told_faults(job.faults)})" if job.faults else ""
    bad = f"bad {job.windows_bad}{why}"
    if job.windows_skipped:
        bad += f", too late {job.windows_skipped}"
    _show("", f"windows {windows or 'none'}; scored {job.windows_scored}, {bad}")
    _show_install(job)
    if job.int8:
        plain, int8, batch = (job.int8.get(each, 0.0) for each in ("plain_ms", "int8_ms", "batch"))
        _show("", f"scores in int8: {int8:.3g} ms for {batch:g} windows, float32 {plain:.3g} ms")
    if job.served:
        scores = ", ".join(f"{name} {value:.4g}" for name, value in job.scores.items())
        _show("", f"serves {job.served}; validation {scores or 'windows: none'}")


def _show_install(job: JobPhase) -> None:
    """What scores, unless it is simply the version that is trained from, and what is to score."""
    install = job.install
    if install is None:
        if job.version and not job.windows_scored:
            _show("", "nothing scores yet: no version was released to this agent")
        return
    committed = install.state == InstallState.COMMITTED
    if committed and not install.release and install.serving == job.version:
        return
    what = f"release {install.release}" if install.release else "version"
    state = install.state.replace("_", " ")
    serving = install.serving[:SHORT] or "none yet"
    _show("", f"serving {serving}; {what} {install.version[:SHORT]} {state}")
    if install.gate:
        _show("", f"gate {install.gate}: {install.reason}")


def _show_predictions(predictions: Predictions) -> None:
    if predictions.error:
        _show("", f"predictions unknown: {predictions.error}")
        return
    if predictions.discarded:
        _show("", f"windows discarded {predictions.discarded}")
    newest = f", the newest {len(predictions.last)}:" if predictions.last else ""
    _show("", f"predictions {predictions.stored} stored{newest}")
    rows = [_cells(row) for row in predictions.last]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for cells in rows:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        print(f"{'':{_INDENT + 2}}{'  '.join(padded)}")


def _cells(row: dict[str, str | float]) -> list[str]:
    """One prediction as a row of at most ``COLUMNS``."""
    end, version = str(row["end"]), str(row["version"])[:SHORT]
    if "class" in row:
        share = f"{100 * float(row['probability']):5.1f} %"
        return [end, _cut(str(row["class"]), _CLASS), share, version]
    between = f" ({row['low']:.4g} to {row['high']:.4g})" if "low" in row else ""
    said = quantity(float(row["value"]), str(row["unit"]))
    return [end, _cut(f"{said}{between}", _VALUE), version]


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _show(label: str, text: str) -> None:
    print(
        textwrap.fill(
            printable(text),
            COLUMNS,
            initial_indent=f"{label:<{_INDENT}}",
            subsequent_indent=" " * _INDENT,
            break_long_words=False,
            break_on_hyphens=False,
        )
    )

# SPDX-License-Identifier: Apache-2.0
"""How the labels of a job do, for people: what ``status`` and ``label --list`` show."""

import math
from collections.abc import Iterator

from fedmill_agent.places import job_folder, windows_file
from fedmill_agent.sources.files import shorten
from fedmill_agent.store.reader import WindowReader
from fedmill_agent.store.report import LabelReport
from fedmill_shared.errors import FedmillError, StoreError
from fedmill_shared.job import Job
from fedmill_shared.job_check import job_from_canonical

MOST_CLASSES = 20
_SPANS = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"), (0.0, "s"))


def accepted_job(state: str, name: str) -> Job | None:
    """The job as the agent has accepted it; None if it has not.

    Raises:
        StoreError: the file cannot be read.
        JobError: this fedmill does not understand it.
    """
    path = job_folder(state, name) / "job.json"
    try:
        return job_from_canonical(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error


def read_report(state: str, name: str) -> LabelReport | str | None:
    """The labels of a job; None before it was accepted; or why they cannot be read."""
    try:
        job = accepted_job(state, name)
        path = windows_file(state, job) if job is not None else None
        if path is None or not path.exists():
            return None
        with WindowReader(path) as reader:
            return reader.label_report()
    except FedmillError as error:
        return str(error)


def report_lines(state: str, name: str) -> Iterator[str]:
    """The same in words, no line where there are no labels; a fault is told."""
    report = read_report(state, name)
    if isinstance(report, str):
        yield f"labels unknown: {report}"
        return
    if report is None or not _some(report):
        return
    recorded = f", and {report.recorded} of recordings" if report.recorded else ""
    pace = f", {report.per_day:.3g} a day" if report.labels else ""
    yield f"labels {report.labels}{pace}{_delay(report)}{recorded}"
    fates = {
        "late": report.late,
        "corrected": report.corrected,
        "deleted": report.deleted,
        "refused": report.refused,
        "without a window": report.without_window,
    }
    told = ", ".join(f"{count} {what}" for what, count in fates.items() if count)
    if told:
        yield told
    contested = f", {report.conflicting} contested" if report.conflicting else ""
    yield f"{report.labelled} of {report.windows} windows labelled{_balance(report)}{contested}"


def _some(report: LabelReport) -> bool:
    counts = report.labels, report.recorded, report.deleted, report.refused, report.labelled
    return any(counts)


def _delay(report: LabelReport) -> str:
    if math.isnan(report.delay_median_seconds):
        return ""
    median, p95 = report.delay_median_seconds, report.delay_p95_seconds
    return f", half of them within {_span(median)}, 95 % within {_span(p95)}"


def _span(seconds: float) -> str:
    unit, name = next((unit, name) for unit, name in _SPANS if seconds >= unit)
    amount = seconds / (unit or 1.0)
    return f"{amount:.0f} {name}" if amount >= 100 else f"{amount:.3g} {name}"


def _balance(report: LabelReport) -> str:
    if report.balance:
        return ": " + shorten([f"{c} {n}" for c, n in report.balance.items()], MOST_CLASSES)
    if math.isnan(report.lowest):
        return ""
    return f": {report.lowest:.6g} to {report.highest:.6g}"

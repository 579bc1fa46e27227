# SPDX-License-Identifier: Apache-2.0
"""Which labels a job can use, and why not the others."""

from fedmill_agent.labels.record import LabelRecord
from fedmill_agent.sources.files import shorten
from fedmill_shared.job import Job

MOST_NAMES = 8


def refusal(job: Job, record: LabelRecord) -> str:
    """Why ``job`` cannot use a label; empty where it can, or where it withdraws one."""
    reason = ""
    if record.deleted:
        return reason
    source, text = job.labels.source, record.text
    if not job.needs_labels:
        reason = "the job reconstructs its input and takes no labels"
    elif source == "forecast":
        reason = "the job foretells a signal and takes no labels"
    elif source == "event":
        reason = _no_event(job, record)
    elif job.job.task == "regression":
        reason = f"{text!r} is a class, and the job learns a number" if text else ""
    elif not text:
        reason = f"{record.truth} is a number, and the job learns classes"
    elif text not in job.labels.classes:
        named = shorten(job.labels.classes, MOST_NAMES)
        reason = f"{text!r} is none of the job's classes: {named}"
    return reason


def _no_event(job: Job, record: LabelRecord) -> str:
    if job.labels.events and record.text not in job.labels.events:
        named = shorten(job.labels.events, MOST_NAMES)
        return f"{record.truth!r} is none of the job's events: {named}"
    return "" if record.start_ns is not None else "an event needs a time"

# SPDX-License-Identifier: Apache-2.0
"""Rules about where the ground truth of a job comes from."""

from collections.abc import Iterator
from typing import Any

from fedmill_shared.errors import SchemaError
from fedmill_shared.job import Job, Labels
from fedmill_shared.signals.units import affine
from fedmill_shared.toml.faults import Fault, value_fault

_ONLY_FOR = {
    "tolerance_seconds": "source",
    "conflict": "source",
    "signal": "forecast",
    "horizon_seconds": "forecast",
    "events": "event",
}
_USUAL = Labels()

MOST_WAITING = 65_536
"""Windows of one run that may wait for what they should have foretold."""


def horizon_samples(job: Job) -> int:
    """Samples from the last one of a window to the one that a forecast foretells."""
    return round(job.labels.horizon_seconds * job.rate_hz)


def labelling_faults(job: Job) -> Iterator[Fault]:
    """What of the labels of ``job`` cannot be."""
    labels = job.labels
    for field, source in _ONLY_FOR.items():
        value = getattr(labels, field)
        if source != labels.source and value != getattr(_USUAL, field):
            problem = f'it is for from = "{source}", which is "{labels.source}"'
            remedy = f'write from = "{source}" below [labels], or remove it'
            yield _fault(field, value, problem, remedy)
    if labels.source == "source":
        return
    if job.job.task != "regression":
        problem = "classes come with labels; what a job makes itself is a number"
        remedy = 'write task = "regression" below [job], or from = "source"'
        yield _fault("from", labels.source, problem, remedy)
    if labels.source == "event":
        yield from _unit_faults(job, "s", "a remaining life is a time", "s, min, h or d")
    else:
        yield from _forecast_faults(job)


def _forecast_faults(job: Job) -> Iterator[Fault]:
    labels, rate_hz = job.labels, job.rate_hz
    signal = next((each for each in job.signals if each.name == labels.signal), None)
    if signal is None:
        problem = "the job has no such signal"
        yield _fault("signal", labels.signal, problem, _one_of(job))
    else:
        problem = f"signal {signal.name} is in {signal.unit}"
        yield from _unit_faults(job, signal.unit, problem, signal.unit)
    samples = horizon_samples(job)
    if samples < 1 or abs(labels.horizon_seconds * rate_hz - samples) > 1e-6 * samples:
        problem = f"it is no whole number of samples, which are {1 / rate_hz:.6g} s apart"
        yield _fault("horizon_seconds", labels.horizon_seconds, problem, "write a multiple of that")
    elif samples > MOST_WAITING * job.stride:
        problem = f"more than {MOST_WAITING} windows would wait for their value"
        remedy = "shorten it, or widen window.stride"
        yield _fault("horizon_seconds", labels.horizon_seconds, problem, remedy)


def _unit_faults(job: Job, unit: str, problem: str, remedy: str) -> Iterator[Fault]:
    try:
        affine(unit, job.labels.unit)
    except SchemaError:
        yield _fault("unit", job.labels.unit, problem, f"write {remedy}")


def _one_of(job: Job) -> str:
    return f"write one of {', '.join(each.name for each in job.signals[:20])}"


def _fault(field: str, value: Any, problem: str, remedy: str) -> Fault:
    return value_fault(("labels", field), value, problem, remedy)

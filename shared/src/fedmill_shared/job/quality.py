# SPDX-License-Identifier: Apache-2.0
"""Rules about which values of a signal are good."""

from collections.abc import Iterator

from fedmill_shared.job import Job, Signal
from fedmill_shared.toml.faults import Fault, value_fault


def quality_faults(job: Job) -> Iterator[Fault]:
    """What of the signals and the cleaning of ``job`` cannot be."""
    for index, signal in enumerate(job.signals):
        yield from _range_faults(index, signal)
        window_seconds = job.window.length / signal.rate_hz
        if signal.flat_seconds > window_seconds:
            yield value_fault(
                ("signals", index, "flat_seconds"),
                signal.flat_seconds,
                f"a window is {window_seconds:g} s long, and each is looked at by itself",
                f"write at most {window_seconds:g}, or make window.length longer",
            )
    for outliers, fields in (("hampel", ("reach", "sigmas")), ("winsorise", ("tails",))):
        yield from _idle_faults(job, outliers, fields)


def _range_faults(index: int, signal: Signal) -> Iterator[Fault]:
    limits = signal.range
    if not limits:
        return
    problem = ""
    if len(limits) != 2:
        problem = "one number is no range"
    elif limits[0] >= limits[1]:
        problem = "the first number is the smallest plausible value, the second the largest"
    if problem:
        remedy = f"write [smallest, largest] in {signal.unit}, or remove it"
        yield value_fault(("signals", index, "range"), limits, problem, remedy)


def _idle_faults(job: Job, outliers: str, fields: tuple[str, ...]) -> Iterator[Fault]:
    """A field that is set for a method which is not used: probably that line was forgotten."""
    cleaning = job.cleaning
    if cleaning.outliers == outliers:
        return
    for field in fields:
        value = getattr(cleaning, field)
        if value != getattr(type(cleaning)(), field):
            problem = f'it is for outliers = "{outliers}", which is "{cleaning.outliers}"'
            remedy = f'write outliers = "{outliers}" below [cleaning], or remove it'
            yield value_fault(("cleaning", field), value, problem, remedy)

# SPDX-License-Identifier: Apache-2.0
"""Rules about which values of a signal are good."""

from collections.abc import Iterator
from math import ceil, floor

from fedmill_shared.job import Job, Signal
from fedmill_shared.toml.faults import Fault, value_fault


def flat_samples(signal: Signal, rate_hz: float) -> int:
    """Equal samples in a row of a window that make ``signal`` stuck; 0: it may stay.

    Between the first and the last of n own samples lie n - 1 periods. In a window of ``rate_hz``
    each of them is held until the next one.
    """
    own = 1 + floor(signal.flat_seconds * signal.rate_hz + 1e-9)
    return ceil(own * rate_hz / signal.rate_hz * (1 - 1e-9)) if signal.flat_seconds else 0


def held_samples(signal: Signal, rate_hz: float) -> int:
    """Samples of a window of ``rate_hz`` that one value of ``signal`` stands for, at least 1."""
    return ceil(rate_hz / signal.rate_hz * (1 - 1e-9))


def quality_faults(job: Job) -> Iterator[Fault]:
    """What of the signals and the cleaning of ``job`` cannot be."""
    for index, signal in enumerate(job.signals):
        yield from _range_faults(index, signal)
        yield from _flat_faults(index, signal, job)
    for outliers, fields in (("hampel", ("reach", "sigmas")), ("winsorise", ("tails",))):
        yield from _idle_faults(job, outliers, fields)
    if job.cleaning.outliers == "hampel" and job.cleaning.reach >= job.window.length:
        yield value_fault(
            ("cleaning", "reach"),
            job.cleaning.reach,
            f"a window has {job.window.length} samples",
            "write fewer neighbours than that",
        )


def _flat_faults(index: int, signal: Signal, job: Job) -> Iterator[Fault]:
    field, seconds = ("signals", index, "flat_seconds"), signal.flat_seconds
    if not seconds:
        return
    samples, length = flat_samples(signal, job.rate_hz), job.window.length
    if flat_samples(signal, signal.rate_hz) < 2:  # one value is always equal to itself
        problem = f"samples are {1 / signal.rate_hz:.6g} s apart"
        yield value_fault(field, seconds, problem, "write a multiple of that, or 0 for never")
    elif samples > length:
        problem = f"each window is looked at by itself, and has {length} samples"
        yield value_fault(field, seconds, problem, "write less, or make window.length longer")
    elif job.window.pad == "edge":
        problem = 'with window.pad = "edge" every run begins with values that are repeated'
        yield value_fault(field, seconds, problem, 'write pad = "none", or remove it')


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

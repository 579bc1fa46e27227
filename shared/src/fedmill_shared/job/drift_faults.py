# SPDX-License-Identifier: Apache-2.0
"""Rules about what is watched for drift, and what follows from it."""

from collections import Counter
from collections.abc import Iterator

from fedmill_shared.job import Job
from fedmill_shared.toml.faults import Fault, value_fault


def drift_faults(job: Job) -> Iterator[Fault]:
    """What of ``[drift]`` cannot be done."""
    drift = job.drift
    for field in ("watch", "on_warning", "on_alarm"):
        words: list[str] = getattr(drift, field)
        for word, times in Counter(words).items():
            if times > 1:
                yield _fault(field, words, f'"{word}" stands there twice', "remove one of them")
    if drift.warn_run_length >= drift.run_length:
        problem = f"warnings would be rarer than alarms, every {drift.run_length} windows"
        yield _fault("warn_run_length", drift.warn_run_length, problem, "write a tenth of that")
    if drift.reference_windows < 2 * drift.block_windows:
        problem = f"it is less than two blocks of {drift.block_windows}"
        remedy = "write five times block_windows"
        yield _fault("reference_windows", drift.reference_windows, problem, remedy)
    if "residual" in drift.watch and not job.needs_labels:
        problem = "a reconstruction has no truth that could come"
        yield _fault("watch", drift.watch, problem, 'remove "residual"')
    yield from _action_faults(job)


def _action_faults(job: Job) -> Iterator[Fault]:
    for field in ("on_warning", "on_alarm"):
        actions: list[str] = getattr(job.drift, field)
        if "recalibrate" in actions and job.window.normalise == "none":
            problem = "window.normalise is none, so there is nothing to recalibrate"
            yield _fault(field, actions, problem, 'remove "recalibrate"')
        elif "recalibrate" in actions and "input" not in job.drift.watch:
            problem = "what comes in is not watched, so nobody knows what it was like"
            yield _fault(field, actions, problem, 'write "input" into drift.watch')
        tuned = job.learning.ditto > 0 or job.serving.candidates == "best"
        if "personal" in actions and not tuned:
            problem = "agents of this job make no model of their own"
            remedy = 'set learning.ditto, or serving.candidates = "best", or remove "personal"'
            yield _fault(field, actions, problem, remedy)


def _fault(field: str, value: object, problem: str, remedy: str) -> Fault:
    return value_fault(("drift", field), value, problem, remedy)

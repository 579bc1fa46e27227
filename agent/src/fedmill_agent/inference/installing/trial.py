# SPDX-License-Identifier: Apache-2.0
"""What is measured of a model before it serves: speed, memory, and its error. Not on the loop."""

from collections.abc import Callable
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.inference.installing.gates import Verdict, budget, error, quantile_ms
from fedmill_agent.inference.installing.held_out import HeldOut
from fedmill_agent.memory import return_memory
from fedmill_agent.status import resident_bytes
from fedmill_shared.job import Serving
from fedmill_shared.messages import Evidence
from fedmill_shared.onnx_session import OnnxSession

WARM = 3
RUNS = 100
FEWEST = 3
PATIENCE_SECONDS = 3.0
"""Of one measurement of speed, whatever the model takes."""
TRIES = 3
"""A machine may be busy for a moment; the best measurement counts."""


def seconds_of(session: OnnxSession, window: NDArray[np.float32]) -> list[float]:
    """How long ``window`` (1, signals, samples) took, again and again."""
    began, found = perf_counter(), list[float]()
    for number in range(WARM + RUNS):
        before = perf_counter()
        session.run(window)
        now = perf_counter()
        found.append(now - before)
        if now - began > PATIENCE_SECONDS and number >= FEWEST:
            break
    return found[WARM:] or found


def added_by(make: Callable[[], OnnxSession], window: NDArray[np.float32]) -> int:
    """Bytes that the process grows by with one more session, which has run once.

    What other threads take meanwhile counts as well; it is right to about 1 MiB.
    """
    return_memory()
    before = resident_bytes()
    session = make()
    session.run(window)
    after = resident_bytes()
    del session
    return max(after - before, 0)


def within_budget(
    serving: Serving,
    session: OnnxSession,
    make: Callable[[], OnnxSession],
    window: NDArray[np.float32],
) -> Verdict:
    """Whether a model is fast and small enough for this machine; ``make`` gives another of it."""
    added = added_by(make, window) if serving.budget_mib else 0
    seconds = [0.0]
    if serving.budget_ms:
        for _ in range(TRIES):
            seconds = seconds_of(session, window)
            if quantile_ms(seconds) <= serving.budget_ms:
                break
    return budget(serving, seconds, added)


def no_worse(serving: Serving, held_out: HeldOut, new: OnnxSession, old: OnnxSession) -> Verdict:
    """Whether the errors of ``new`` on what is held out are no worse than those of ``old``.

    Raises:
        StoreError: the store cannot be read.
        ModelError: a model cannot be run.
    """
    return error(serving, *held_out.errors(new.run, old.run))


def passed(verdicts: list[Verdict]) -> tuple[Verdict | None, Evidence]:
    """The first of ``verdicts`` that says no, and all their evidence."""
    evidence: Evidence = {}
    for verdict in verdicts:
        evidence |= verdict.evidence
    return next((verdict for verdict in verdicts if not verdict.ok), None), evidence

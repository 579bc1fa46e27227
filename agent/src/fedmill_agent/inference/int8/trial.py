# SPDX-License-Identifier: Apache-2.0
"""Int8 against float32 on this machine and its windows: faster, and no worse? Not on the loop."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.inference.installing.held_out import errors_of
from fedmill_agent.inference.int8.calibration import Extremes
from fedmill_agent.inference.int8.guarded import GuardedSession
from fedmill_agent.inference.int8.judgement import Judgement, of_outputs, of_speed
from fedmill_agent.inference.int8.windows import FEWEST_WINDOWS, MOST_WINDOWS, OwnWindows
from fedmill_shared.errors import ModelError
from fedmill_shared.job import Job
from fedmill_shared.models.quantised import Quantised, bind, ranges_session
from fedmill_shared.onnx_session import OnnxSession

WARM = 3
PAIRS = 200
FEWEST_PAIRS = 5
PATIENCE_SECONDS = 2.0
"""Of one comparison of speed, whatever the model takes."""
PASS_SECONDS = 5.0
"""What one pass of the float32 model over the windows may take: others wait for this thread."""

Values = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a trial found.

    Attributes:
        session: in int8, calibrated; None where float32 stays.
        reason: why float32 stays.
        slow: whether that is so for every version on this machine.
        early: whether there were too few windows to say.
        figures: what was measured.
    """

    session: GuardedSession | None = None
    reason: str = ""
    slow: bool = False
    early: bool = False
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One version's weights (elements,) in both forms, for ``batch`` windows at a time.

    ``plain`` is the session that scores; ONNX Runtime lets several threads run it.
    """

    job: Job
    store: Path
    form: Quantised
    vector: Values
    plain: OnnxSession
    batch: int
    now: Callable[[], float] = perf_counter

    def run(self) -> Outcome:
        """Calibrate, measure, compare.

        Raises:
            StoreError: the agent's windows cannot be read.
            ModelError: the int8 form cannot be bound or run.
        """
        windows = OwnWindows(self.job, self.store)
        if not windows.enough:
            return Outcome(reason="too few windows to calibrate and to compare by", early=True)
        windows.thin(self._affordable(next(windows.calibrating())))
        ranges = ranges_session(self.form, self.vector)
        extremes = Extremes.of(ranges, self.form, windows.calibrating())
        del ranges
        speed: Judgement | None = None
        worse: Judgement | None = None
        for scales in extremes.scales():
            session = bind(self.form, self.vector, scales)
            if (session.outputs, session.features) != (self.plain.outputs, self.plain.features):
                raise ModelError("int8: its graph gives other outputs than the plain one")
            guarded = GuardedSession(session, self.plain, extremes.limits())
            if speed is None:  # the same for all scales
                speed = self._speed(guarded, next(windows.calibrating()))
                if speed.reason:
                    return Outcome(reason=speed.reason, slow=True, figures=speed.figures)
            judged = self._judged(session, windows)
            figures = speed.figures | judged.figures | {"levels": float(scales.levels)}
            if not judged.reason:
                return Outcome(guarded, figures=figures)
            worse = worse or Judgement(judged.reason, figures)
        if worse is None:
            raise ModelError("int8: there are no scales to try")
        return Outcome(reason=worse.reason, figures=worse.figures)

    def _affordable(self, some: Values) -> int:
        """How many windows there is time for, judged by one of them."""
        self.plain.run(some[:1])
        began = self.now()
        self.plain.run(some[:1])
        seconds = max(self.now() - began, 1e-9)
        return max(FEWEST_WINDOWS, min(MOST_WINDOWS, int(PASS_SECONDS / seconds)))

    def _speed(self, session: OnnxSession, some: Values) -> Judgement:
        batch = np.ascontiguousarray(np.resize(some, (self.batch, *some.shape[1:])))
        return of_speed(*compared(self.plain, session, batch, self.now), self.batch)

    def _judged(self, session: OnnxSession, windows: OwnWindows) -> Judgement:
        outputs: list[tuple[Values, Values]] = []
        errors: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
        for portion in windows.judging():
            both = self.plain.run(portion.inputs), session.run(portion.inputs)
            outputs.append(both)
            if windows.labelled:
                truth = portion.texts, portion.numbers
                errors.append(
                    (errors_of(self.job, *truth, both[0]), errors_of(self.job, *truth, both[1]))
                )
        plain, int8 = (np.concatenate(each) for each in zip(*outputs, strict=True))
        if not errors:
            return of_outputs(self.job, plain, int8, None)
        ours, theirs = (np.concatenate(each) for each in zip(*errors, strict=True))
        return of_outputs(self.job, plain, int8, (ours, theirs))


def compared(
    plain: OnnxSession, int8: OnnxSession, batch: Values, now: Callable[[], float]
) -> tuple[float, float]:
    """Medians of both in milliseconds for ``batch``; in turn, so that both see the same machine."""
    began = now()
    taken: tuple[list[float], list[float]] = ([], [])
    for number in range(WARM + PAIRS):
        order = (0, 1) if number % 2 else (1, 0)
        for which in order:
            before = now()
            (plain, int8)[which].run(batch)
            taken[which].append(now() - before)
        if number >= FEWEST_PAIRS and now() - began > PATIENCE_SECONDS:
            break
    return 1e3 * median(taken[0][WARM:]), 1e3 * median(taken[1][WARM:])

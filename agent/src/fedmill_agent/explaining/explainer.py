# SPDX-License-Identifier: Apache-2.0
"""Asks the serving model why: what of a window makes its score what it usually is not.

At most ``MOST_ROWS`` windows are scored for one explanation, in two or three calls.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.explaining.explanation import UNEXPLAINED, Cause, Explanation
from fedmill_agent.explaining.occlusion import Score, effects
from fedmill_agent.explaining.parts import (
    Band,
    Rows,
    bands,
    feature_parts,
    grouped,
    signal_parts,
)
from fedmill_agent.explaining.score import scores
from fedmill_agent.explaining.words import MOST_OF_IT, WORTH_TELLING, sentence
from fedmill_shared.job import Job
from fedmill_shared.signals.windows import Window

MOST_SIGNALS = 14
MOST_PARTS = 16
MOST_ROWS = 2 + 2 * MOST_SIGNALS + 2 * MOST_PARTS
MOST_CAUSES = 3
REMEMBERED_BYTES = 1 << 20
"""Of usual windows, one for each machine; that of the machine seen longest ago goes first."""
MOST_MACHINES = 1000
LONGEST_NAME = 120
MOST_OF_BAND = 0.7
"""Of what all bands of a signal do, that the one that is named does."""
LEAST_SHARE = 0.2
"""What carries less is not looked into."""
_NOTHING = 1e-6

Values = NDArray[np.float32]


class Explainer:
    """Owns the usual windows that a job's others are compared with."""

    def __init__(
        self,
        job: Job,
        run: Callable[[Values], Values],
        levels: Callable[[Values], Values | None],
    ) -> None:
        """Ask ``run`` for outputs (n, outputs) of windows (n, rows, length).

        ``levels`` gives the usual window (rows, length) for another where no window of the machine
        was usual yet; None where it is not known.
        """
        self._job = job
        self._run = run
        self._levels = levels
        self._usual: dict[str, Values] = {}

    def note(self, window: Window) -> None:
        """``window`` is as usual: later ones of its machine are compared with it."""
        unit = _named(window)
        self._usual.pop(unit, None)
        self._usual[unit] = window.values
        most = REMEMBERED_BYTES // max(1, window.values.nbytes)
        if len(self._usual) > max(1, min(MOST_MACHINES, most)):
            del self._usual[next(iter(self._usual))]

    def explain(self, window: Window, classes: Sequence[str]) -> Explanation:
        """Why the model says one of ``classes`` of ``window``, or its number where there are none.

        Raises:
            ModelError: the model cannot score it.
        """
        values, usual = window.values, self._usual_for(window)
        if usual is None:
            return UNEXPLAINED
        pair = self._run(np.stack([usual, values]))
        chosen = [self._job.labels.classes.index(name) for name in classes]
        if len(chosen) == pair.shape[1]:  # all of them raise it: what speaks for the most likely
            chosen = [int(pair[1].argmax())]

        def score(rows: Values) -> NDArray[np.float64]:
            return scores(self._run(rows), chosen)

        usually, now = scores(pair, chosen).tolist()
        change = now - usually
        if not abs(change) > _NOTHING * max(1.0, abs(usually)) or (chosen and change < 0.0):
            return Explanation("with usual values the model says the same")
        return _Search(self._job, score, values, usual, (usually, now)).explanation()

    def _usual_for(self, window: Window) -> Values | None:
        """The usual window in the operating condition of ``window``."""
        found = self._usual.get(_named(window))
        if found is None or found.shape != window.values.shape:
            found = self._levels(window.values)
        if found is None or found.shape != window.values.shape:
            return None
        usual = found.copy()
        usual[self._job.regimes] = window.values[self._job.regimes]
        return usual


class _Search:
    """One explanation: which signal, and then what of it."""

    def __init__(
        self, job: Job, score: Score, values: Values, usual: Values, known: tuple[float, float]
    ) -> None:
        self._job = job
        self._score = score
        self._values = values
        self._usual = usual
        self._known = known
        self._change = known[1] - known[0]

    def explanation(self) -> Explanation:
        """The parts that carry most, and what all signals make of the change."""
        all_signals = signal_parts(self._job)
        signals = grouped(all_signals, MOST_SIGNALS)
        shares = [1.0] if len(signals) == 1 else self._shares(signals)
        top = max(range(len(shares)), key=shares.__getitem__)
        causes = [Cause(_called(part), share) for part, share in zip(signals, shares, strict=True)]
        if shares[top] >= LEAST_SHARE:
            causes[top : top + 1] = self._within(signals[top], all_signals, causes[top])
        causes.sort(key=lambda cause: -cause.share)
        told = tuple(each for each in causes if each.share >= WORTH_TELLING)[:MOST_CAUSES]
        return Explanation(sentence(told, sum(shares)), told)

    def _shares(self, parts: Sequence[Rows | Band]) -> list[float]:
        found = effects(self._score, self._values, self._usual, parts, self._known)
        shares: list[float] = (found / self._change).tolist()
        return shares

    def _within(self, part: Rows, signals: list[Rows], whole: Cause) -> list[Cause]:
        """What carries most of ``part``; the ``whole`` of it where nothing stands out."""
        members = [each for each in signals if set(each.positions) <= set(part.positions)]
        if len(members) > 1:
            some = grouped(members, MOST_PARTS)
            shares = self._shares(some)
            return [Cause(_called(each), share) for each, share in zip(some, shares, strict=True)]
        if len(part.positions) > 1:
            return self._features(part, whole)
        return self._bands(part, whole)

    def _features(self, part: Rows, whole: Cause) -> list[Cause]:
        some = grouped(feature_parts(self._job, part), MOST_PARTS)
        shares = _within(whole.share, self._shares(some))
        causes = [
            Cause(part.first, share, feature=_called(each))
            for each, share in zip(some, shares, strict=True)
        ]
        causes.sort(key=lambda cause: -cause.share)
        best = [each for each in causes[:MOST_CAUSES] if each.share >= WORTH_TELLING]
        return best if sum(each.share for each in best) >= MOST_OF_IT * whole.share else [whole]

    def _bands(self, part: Rows, whole: Cause) -> list[Cause]:
        some = bands(self._job, part)
        if len(some) < 2:
            return [whole]
        shares = _within(whole.share, self._shares(some))
        first, last = _narrowest(shares, MOST_OF_BAND * sum(shares))
        share = sum(shares[first:last])
        if share < MOST_OF_IT * whole.share or last - first > len(some) // 2:
            return [whole]
        low, high = some[first].low, some[last - 1].high
        return [Cause(part.first, share, low=low, high=high, unit=some[first].unit)]


def _named(window: Window) -> str:
    """The machine of a window; a source may make up names of any length."""
    return (window.unit or window.run)[:LONGEST_NAME]


def _within(whole: float, shares: Sequence[float]) -> list[float]:
    """Shares of parts that make more together than the ``whole`` does, as parts of it."""
    total = sum(shares)
    return [share * whole / total for share in shares] if total > whole else list(shares)


def _narrowest(shares: Sequence[float], least: float) -> tuple[int, int]:
    """Begin and end of the fewest neighbours that have ``least`` together; of equals the most."""
    sums = np.concatenate(([0.0], np.cumsum(shares)))
    for width in range(1, len(shares) + 1):
        found = sums[width:] - sums[:-width]
        begin = int(found.argmax())
        if found[begin] >= least:
            break
    return begin, begin + width


def _called(part: Rows) -> str:
    return part.first if part.first == part.last else f"{part.first} to {part.last}"

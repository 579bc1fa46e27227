# SPDX-License-Identifier: Apache-2.0
"""Watches what a job's model sees and says, and has done what the job wants done about drift.

What is usual is learned from stored windows: the input from those that are trained on, what the
model makes of it from validation windows, which it has not learned by heart. Where there are too
few, and after a model was changed because of drift, it is learned from what comes.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedmill_agent import kept
from fedmill_agent.drift import keeping, rows
from fedmill_agent.drift.actions import Acting
from fedmill_agent.drift.charts import Chart, Standing, highest, sigmas
from fedmill_agent.drift.detector import Array
from fedmill_agent.drift.keeping import DriftState
from fedmill_agent.drift.normaliser import Normaliser, Tally
from fedmill_agent.drift.response import Response
from fedmill_agent.drift.signals import MOST_NUMBERS, Signal, Stored, Submit
from fedmill_agent.drift.stored import Rows, judged_rows, newest_rows
from fedmill_agent.drift.told import ChartTold, DriftTold
from fedmill_agent.drift.trend import Trends
from fedmill_agent.inference.scored import Scored
from fedmill_agent.store.reader import WindowReader
from fedmill_shared.clock import Clock
from fedmill_shared.errors import DataError, FedmillError, StoreError
from fedmill_shared.files import sha256
from fedmill_shared.job import Job
from fedmill_shared.job_check import canonical
from fedmill_shared.log import Logger
from fedmill_shared.signals.windows import Window

Values = NDArray[np.float32]
Look = Callable[[Sequence[Values]], tuple[Values, Values | None]]
"""Outputs (n, outputs) and features (n, width) of the model that scores, told to nobody."""
BUDGET_SECONDS = 0.02
"""How long the daemon's loop is held at most by what is learned, but for one portion."""
JUDGE_SECONDS = 30.0
MOST_JUDGED = 2000
"""Newest predictions that are looked at for a truth that has come."""
KEEP_SECONDS = 300.0
BYTES_PER_SECOND = 200.0
"""Written for what is known of drift, in the long run: a large reference more rarely."""
_NAMES = {
    "input": rows.input_names,
    "output": rows.output_names,
    "residual": rows.residual_names,
}
NO_FEATURES = "the model's graph tells no features"


class Watch:
    """Owns the signals of one job's drift; observes what is scored, on the daemon's loop."""

    def __init__(
        self,
        job: Job,
        folder: Path,
        store: WindowReader,
        look: Look,
        acting: Acting,
        *,
        clock: Clock,
        log: Logger,
        submit: Submit,
    ) -> None:
        """Know what was known before a restart; ``folder`` is the job's.

        ``submit`` has charts calibrated where that does not hold up the loop.

        Raises:
            StoreError: the disk fails.
        """
        self._job = job
        self._path = folder / keeping.FILE
        self._store = store
        self._look = look
        self._acting = acting
        self._clock = clock
        self._log = log
        self._submit = submit
        self._layout = sha256(canonical(job))
        self._response = Response(job, acting, clock, log)
        self._signals: dict[str, Signal] = {name: self._signal(name) for name in job.drift.watch}
        self._version = ""
        self._normaliser: Normaliser | None = None
        self._past = Tally.empty((1, len(job.inputs)))
        self._judged: set[int] = set()
        self._judge_due = 0.0
        self._since_drift = False
        self._unlearned: set[str] = set()
        self._keep_due = clock.monotonic() + KEEP_SECONDS
        self._resume()

    def observe(self, scored: Scored) -> None:
        """Take what a model said of some windows.

        Raises:
            FedmillError: the weights of what scores cannot be read.
        """
        if scored.version != self._version:
            self._begin(scored.version)
        elif self._unlearned:
            self._learn_rest()
        for place, window in enumerate(scored.windows):
            if "input" in self._signals:
                self._see_input(window)
            if "output" in self._signals:
                row = rows.output_row(self._job, scored.outputs[place])
                self._see("output", window.run, row)
            if "representation" in self._signals:
                if scored.features is None:
                    self._signals["representation"].off = NO_FEATURES
                else:
                    features = scored.features[place].astype(np.float64)
                    self._see("representation", window.run, features)

    def tick(self) -> None:
        """Do what is due about once a second, a little at a time."""
        until = self._clock.monotonic() + BUDGET_SECONDS
        for signal in self._signals.values():
            learning = bool(signal.charts)
            try:
                while signal.go_on() and self._clock.monotonic() < until:
                    pass
            except FedmillError as error:
                self._log.error("drift.failed", signal=signal.name, error=str(error))
                signal.learn(None)
            if signal.charts and not learning:
                self._log.info("drift.armed", signal=signal.name, windows=len(signal.reference))
                self._keep_due = 0.0
        now = self._clock.monotonic()
        if "residual" in self._signals and self._version and now >= self._judge_due:
            self._judge_due = now + JUDGE_SECONDS
            self._judge()
        if now >= self._keep_due:
            self.keep()

    def keep(self) -> None:
        """Put down what is known, so that a restart goes on with it; a disk that fails is told."""
        signals = {name: each for name, each in self._signals.items() if each.charts}
        state = DriftState(
            layout=self._layout,
            version=self._version,
            signals={name: keeping.kept_signal(each) for name, each in signals.items()},
            normaliser=keeping.kept_normaliser(self._normaliser) if self._normaliser else [],
            reference=keeping.kept_tally(self._past),
            recent=keeping.kept_tally(self._response.recent) if self._response.recent else None,
            recent_left=self._response.recent_left,
            since_drift=self._since_drift,
            collecting=self._acting.left(),
            judged=sorted(self._judged),
            acted=self._response.acted,
        )
        numbers = sum(each.reference.size for each in signals.values())
        wait = max(KEEP_SECONDS, 8 * numbers / BYTES_PER_SECOND)
        self._keep_due = self._clock.monotonic() + wait
        try:
            kept.keep(self._path, state)
        except StoreError as error:
            self._log.warning("drift.not_kept", error=str(error))

    def told(self) -> DriftTold:
        """Where it stands, for people."""
        return DriftTold(
            standing=self._standing,
            waiting={
                name: reason
                for name, each in self._signals.items()
                if (reason := each.off or self._waits(each))
            },
            charts=[
                self._chart_told(each, chart)
                for each in self._signals.values()
                for chart in each.charts
            ],
            acted=self._response.acted,
        )

    @property
    def _standing(self) -> Standing:
        return highest([each.standing for each in self._signals.values()])

    def _signal(self, name: str) -> Signal:
        names = _NAMES[name](self._job) if name in _NAMES else []
        wearing = name in ("input", "output") and rows.wears(self._job)
        trends = Trends() if wearing else None
        return Signal(self._job, name, names, trends, submit=self._submit)

    def _begin(self, version: str) -> None:
        """Another model scores: what it makes of windows is learned anew.

        What comes in has not changed with it, unless the model was changed because that had.
        """
        source = self._signals.get("input")
        alarmed = source is not None and source.standing == "alarmed"
        learning = source is not None and not source.charts
        self._since_drift = alarmed or (self._since_drift and learning)
        if source is not None and (alarmed or self._normaliser is None or source.idle):
            self._learn_input(source)
        self._version = version
        self._judged.clear()
        self._unlearned.clear()
        self._response.forget()
        for name, signal in self._signals.items():
            if name != "input":
                self._learn(name, signal)
        self._response.settled(self._standing)

    def _learn_rest(self) -> None:
        """The version of before a restart scores: what had not learned by then learns now."""
        for name in sorted(self._unlearned):
            if name == "input":
                self._learn_input(self._signals[name])
            else:
                self._learn(name, self._signals[name])
            self._unlearned.remove(name)
            if name == "residual":
                self._judged.clear()

    def _learn_input(self, signal: Signal) -> None:
        model = self._acting.model()
        if model is None:
            raise DataError("a version scores, and its weights are not there")
        self._normaliser = Normaliser.of(self._job, *model)
        self._past = Tally.empty(self._normaliser.mean.shape)
        signal.learn(None if self._since_drift else self._trained)

    def _learn(self, name: str, signal: Signal) -> None:
        signal.learn(None if self._since_drift else self._stored(name))

    def _stored(self, name: str) -> Stored:
        if name == "residual":
            return self._wrong
        return partial(self._validated, self._said if name == "output" else self._felt)

    def _trained(self) -> Iterable[Rows]:
        width = 2 * len(self._job.inputs)
        return newest_rows(self._store, "train", self._most(width), self._input_rows)

    def _validated(self, make: Callable[[Sequence[Values]], list[Array]]) -> Iterable[Rows]:
        width = len(self._job.labels.classes) + 2
        return newest_rows(self._store, "validation", self._most(width), make)

    def _wrong(self) -> Iterable[Rows]:
        make = partial(rows.residual_row, self._job)
        return judged_rows(
            self._store, self._job, self._most(2), make, lambda values: self._look(values)[0]
        )

    def _most(self, width: int) -> int:
        return min(self._job.drift.reference_windows, MOST_NUMBERS // max(1, width))

    def _input_rows(self, values: Sequence[Values]) -> list[Array]:
        made = []
        for each in values:
            if self._normaliser is None:
                return []
            conditions, standardised = self._normaliser.standardise(each)
            self._past.add(conditions, standardised)
            made.append(rows.input_row(standardised))
        return made

    def _said(self, values: Sequence[Values]) -> list[Array]:
        return [rows.output_row(self._job, each) for each in self._look(values)[0]]

    def _felt(self, values: Sequence[Values]) -> list[Array]:
        features = self._look(values)[1]
        if features is None:
            self._signals["representation"].off = NO_FEATURES
            return []
        return list(features.astype(np.float64))

    def _see_input(self, window: Window) -> None:
        if self._normaliser is None:
            return
        conditions, values = self._normaliser.standardise(window.values)
        signal = self._signals["input"]
        if signal.live:
            if not signal.learned:  # too few were stored, or could be read
                self._past = Tally.empty(self._normaliser.mean.shape)
            self._past.add(conditions, values)
        self._response.saw(conditions, values, self._normaliser, self._past)
        self._see("input", window.run, rows.input_row(values))

    def _see(self, name: str, run: str, row: Array) -> None:
        signal = self._signals[name]
        for change in signal.see(run, row):
            self._response.changed(change, _column(signal, change.chart, change.column))
            self._response.settled(self._standing)

    def _judge(self) -> None:
        """Count predictions whose truth has come since, unless nothing can be made of them yet."""
        signal = self._signals["residual"]
        if not (signal.charts or signal.live):
            return
        try:
            found = self._store.judged(self._version, MOST_JUDGED)
        except StoreError as error:
            self._log.error("drift.failed", signal="residual", error=str(error))
            return
        for each in found:
            row = rows.residual_row(self._job, each.outputs, each.text, each.number)
            if each.id not in self._judged and row is not None:
                self._see("residual", each.run, row)
        self._judged = {each.id for each in found}

    def _waits(self, signal: Signal) -> str:
        if signal.charts:
            return ""
        wanted = self._job.drift.reference_windows
        if signal.calibrating:
            return "its charts are being calibrated"
        if not self._version:
            return "no model scores yet"
        return f"learns what is usual, {signal.learned} of {wanted} windows"

    def _chart_told(self, signal: Signal, chart: Chart) -> ChartTold:
        name = chart.plan.name
        return ChartTold(
            chart=name,
            standing=chart.standing,
            statistic=sigmas(name, chart.statistic),
            warn=sigmas(name, chart.levels.warn),
            alarm=sigmas(name, chart.levels.alarm),
            column=_column(signal, name, chart.column),
            windows=chart.windows,
        )

    def _resume(self) -> None:
        found = kept.find(self._path, DriftState, self._layout)
        state = found.kept
        if found.set_aside is not None:
            self._log.warning("drift.set_aside", path=str(found.set_aside))
        if state is None:
            return
        try:
            self._take_up(state)
        except (FedmillError, ValueError) as error:
            self._log.warning("drift.set_aside", path=str(self._path), error=str(error))
            self._version, self._normaliser, self._since_drift = "", None, False
            self._response = Response(self._job, self._acting, self._clock, self._log)

    def _take_up(self, state: DriftState) -> None:
        if len(state.normaliser) == 4 and state.reference is not None:
            self._normaliser = keeping.normaliser_of(self._job, state.normaliser)
            self._past = keeping.tally_of(state.reference, self._normaliser.mean.shape)
        for name, signal in self._signals.items():
            if name in state.signals:
                keeping.restore(self._job, signal, state.signals[name])
        response = self._response
        response.acted, response.recent_left = list(state.acted), state.recent_left
        if state.recent is not None:
            response.recent = keeping.tally_of(state.recent, self._past.total.shape)
        response.reached = self._standing
        if state.collecting:
            self._acting.keep(state.collecting)
        self._judged = set(state.judged)
        self._since_drift = state.since_drift
        self._unlearned = {name for name, each in self._signals.items() if not each.charts}
        self._version = state.version


def _column(signal: Signal, chart: str, column: int) -> str:
    """What a column of a chart is called; the chart of classes has one only."""
    if column < 0 or not signal.columns:
        return ""
    return signal.columns[-1] if chart == "output-psi" else signal.columns[column]

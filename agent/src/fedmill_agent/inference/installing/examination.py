# SPDX-License-Identifier: Apache-2.0
"""One version at the gates that take time: its budget, its error, the windows beside and behind.

Sessions are made and measured in the background; everything else happens on the daemon's loop. Who
examines hears of each step by a call, and an examination that is stopped calls nobody any more.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import nan

from fedmill_agent.inference.assembly import Checked
from fedmill_agent.inference.installing.around import Around
from fedmill_agent.inference.installing.comparison import FEW, Comparison
from fedmill_agent.inference.installing.gates import Gate, Verdict
from fedmill_agent.inference.installing.live import Live
from fedmill_agent.inference.installing.trial import no_worse, passed, within_budget
from fedmill_agent.inference.scored import Scored
from fedmill_agent.inference.serving import Scoring
from fedmill_shared.errors import FedmillError, StoreError
from fedmill_shared.messages import Evidence
from fedmill_shared.models.manifest import version_of
from fedmill_shared.onnx_session import OnnxSession

Told = Callable[[Verdict], None]


class Examination:
    """Owns what is measured of one version on its way.

    Attributes:
        new: what is examined, and serves if it passes.
        old: what serves, or served before; None where it is compared with nothing.
    """

    def __init__(
        self,
        around: Around,
        checked: Checked,
        new: Scoring,
        old: Scoring | None,
    ) -> None:
        """Nothing is measured yet."""
        self._around = around
        self._serving = around.job.serving
        self._checked = checked
        self._fitted: Scoring | None = None
        self.new = new
        self.old = old
        self._live: Live | None = None
        self._gate = Gate.SHADOW
        self._wanted = 0
        self._due = 0.0
        self._told: Told = _nobody
        self._stopped = False

    def stop(self) -> None:
        """It does not matter any more."""
        self._stopped = True

    def measure(self, told: Callable[[Verdict | None, Evidence], None]) -> None:
        """Measure budget and error; ``told`` gets what says no, and the evidence."""
        self._told = lambda verdict: told(verdict, {})
        trials = self._trials()
        if not trials:
            told(None, {})
            return

        def work() -> tuple[Verdict | None, Evidence]:
            verdicts: list[Verdict] = []
            for trial in trials:
                verdicts.append(trial())
                if not verdicts[-1].ok:
                    break
            return passed(verdicts)

        def done(result: tuple[Verdict | None, Evidence]) -> None:
            self.new = self._fitted or self.new
            if not self._stopped:
                told(*result)

        failed = partial(self._failed, Gate.GRAPH)
        self._around.background.submit(work, done, failed)

    def shadow(self, told: Told) -> None:
        """Run the new one beside the old one; ``told`` hears how that went."""
        self._due = self._around.clock.monotonic() + self._serving.shadow_seconds
        self._compare(Gate.SHADOW, self._serving.shadow_windows, told)

    def soak(self, told: Told) -> None:
        """Run the old one behind the new one; ``told`` hears as soon as it is clear."""
        self._due = 0.0
        self._compare(Gate.SOAK, self._serving.soak_windows, told)

    def observe(self, scored: Scored) -> None:
        """A batch was scored by the one that serves."""
        if self._live is not None and not self._stopped:
            self._live.take(scored, self._look, partial(self._failed, self._gate))

    def tick(self) -> None:
        """Say no where the windows do not come."""
        if self._live is None or self._stopped or not self._due:
            return
        if self._around.clock.monotonic() < self._due:
            return
        count, wanted = self._live.compared.count, self._wanted
        seconds = self._serving.shadow_seconds
        reason = f"{count} of {wanted} windows came in serving.shadow_seconds = {seconds:g}"
        self._end(
            Verdict(self._gate, ok=False, reason=reason, evidence={f"{self._gate}_windows": count})
        )

    def _trials(self) -> list[Callable[[], Verdict]]:
        """What is to be measured, in its order."""
        found: list[Callable[[], Verdict]] = []
        if self._serving.budget_ms or self._serving.budget_mib:
            checked, session = self._checked, self.new.session
            make = partial(OnnxSession.from_template, checked.template, checked.vector)
            window = checked.inputs[:1]
            found.append(lambda: within_budget(self._serving, session, make, window))
        if self.old is not None and self._around.held_out is not None:
            found.append(self._error_at_best)
        return found

    def _error_at_best(self) -> Verdict:
        """In the background: as ``_error``, and like with like where labels have moved what serves.

        What was fitted to this machine is hard to beat: compared with it, no version of the
        federation would ever serve here again. So a version that is worse is fitted as well, and
        serves in that form.
        """
        plain = self._error(self.new)
        if plain.ok or self._around.refit is None:
            return plain
        try:
            vector = self._around.refit(self._checked)
            if vector is None:
                return plain
            session = OnnxSession.from_template(self._checked.template, vector)
            fitted = Scoring(version_of(vector), session)
            verdict = self._error(fitted)
        except FedmillError as error:
            self._around.log.warning("install.unfitted", error=str(error))
            return plain
        if not verdict.ok:
            return plain
        self._fitted = fitted
        before = {"error_unfitted": plain.evidence.get("error_new", nan)}
        return replace(verdict, evidence=verdict.evidence | before)

    def _error(self, new: Scoring) -> Verdict:
        """In the background: a store that cannot be read says nothing against a model."""
        if self.old is None or self._around.held_out is None:
            return Verdict(Gate.ERROR)
        try:
            if not self._around.held_out.enough():
                return Verdict(Gate.ERROR)
            return no_worse(self._serving, self._around.held_out, new.session, self.old.session)
        except StoreError as error:
            self._around.log.warning("install.unmeasured", gate=Gate.ERROR, error=str(error))
            return Verdict(Gate.ERROR)

    def _compare(self, gate: Gate, wanted: int, told: Told) -> None:
        if self.old is None:
            told(Verdict(gate))
            return
        self._gate, self._wanted, self._told = gate, wanted, told
        new, old = self.new.session, self.old.session
        soaking = gate is Gate.SOAK
        self._live = Live(
            new,
            old,
            Comparison(self._around.job),
            self._around.background,
            serving=new if soaking else old,
            budget_ms=self._serving.budget_ms if soaking else 0.0,
        )

    def _look(self) -> None:
        """More windows were compared."""
        if self._live is None or self._stopped:
            return
        compared = self._live.compared
        verdict = compared.verdict(self._gate)
        if not compared.sound or compared.count >= self._wanted:
            self._conclude(verdict)
        elif self._gate is Gate.SOAK and compared.count >= FEW and not verdict.ok:
            self._end(verdict)

    def _conclude(self, verdict: Verdict) -> None:
        """All windows have come; labels may have come with them."""
        if self._gate is not Gate.SOAK or not verdict.ok or self._around.held_out is None:
            self._end(verdict)
            return
        self._live = None

        def done(error: Verdict) -> None:
            evidence = verdict.evidence | error.evidence
            self._end(Verdict(self._gate, ok=error.ok, reason=error.reason, evidence=evidence))

        work = partial(self._error, self.new)
        self._around.background.submit(work, done, partial(self._failed, self._gate))

    def _failed(self, gate: Gate, error: FedmillError) -> None:
        """A model could not be run."""
        self._end(Verdict(gate, ok=False, reason=error.message))

    def _end(self, verdict: Verdict) -> None:
        self._live = None
        if not self._stopped:
            self._told(verdict)


def _nobody(_: Verdict) -> None:
    """Nobody waits for it."""

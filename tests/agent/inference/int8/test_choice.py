# SPDX-License-Identifier: Apache-2.0
"""When int8 takes over, and when it is left."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.agent.inference.int8.stand import (
    Later,
    Shelf,
    a_convolving_job,
    blob_of,
    session_of,
    values,
    windows,
)
from tests.agent.kit import Journal, Versions

from fedmill_agent.inference.int8 import trial
from fedmill_agent.inference.int8.choice import (
    AGAIN_SECONDS,
    BATCHES,
    EARLY_SECONDS,
    SETTLE_SECONDS,
    SLOW_SECONDS,
    Int8,
)
from fedmill_agent.inference.int8.form import Form
from fedmill_agent.inference.scorer import Scorer
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import StoreError
from fedmill_shared.link.blocks import blocks_of, parse_block
from fedmill_shared.messages import BlobRequest
from fedmill_shared.onnx_session import OnnxSession


class Stand:
    """One agent's scorer with a choice, and a version on it."""

    def __init__(self, folder: Path, shelf: Shelf) -> None:
        self.clock = ManualClock()
        self.journal = Journal()
        self.later = Later()
        self.shelf = shelf
        self.versions = Versions(a_convolving_job())
        self.versions.advance(scale=0.6)
        self.scorer = Scorer(self.clock, self.journal)
        self.form = Form(folder, "press", self._answer, clock=self.clock, log=self.journal)
        self.int8 = Int8(
            self.versions.job,
            shelf.path,
            self.form,
            self.scorer,
            self.later,
            clock=self.clock,
            log=self.journal,
        )
        self.plain: dict[str, OnnxSession] = {}
        self._requests: list[BlobRequest] = []

    def _answer(self, request: BlobRequest) -> None:
        self._requests.append(request)

    def announce(self) -> None:
        """The coordinator has an int8 form, and sends it when asked."""
        blob = blob_of(self.versions)
        self.form.want(self.versions.put(blob))
        self.form.tick()
        for request in self._requests:
            for block in blocks_of(blob, request.missing):
                self.form.receive(parse_block(block))

    def serve(self) -> OnnxSession:
        """Score with the newest version, as the daemon does."""
        made = self.versions.newest
        self.plain[made.version] = plain = session_of(self.versions)
        self.int8.offer(made.version, made.vector, plain)
        session = self.int8.taken(made.version) or plain
        self.scorer.swap(made.version, session, number=len(self.versions.made) - 1)
        return session

    def pass_(self, seconds: float = 1.0) -> None:
        """Time goes by, and what is due is done, also in the background."""
        self.clock.advance(seconds)
        self.int8.tick()
        self.later.run()

    def said(self, seed: int = 9) -> np.ndarray:
        """What scores now says of some windows within the range."""
        predictions = self.scorer.score(windows(values(4, seed=seed, scale=0.5)))
        return np.stack([prediction.outputs for prediction in predictions])

    def floats(self, seed: int = 9) -> np.ndarray:
        """What float32 says of the same."""
        return self.plain[self.scorer.version].run(values(4, seed=seed, scale=0.5))

    @property
    def exact(self) -> bool:
        """Whether float32 scores: int8 rounds."""
        same = bool(np.allclose(self.said(), self.floats(), rtol=1e-5, atol=1e-6))
        assert np.allclose(self.said(), self.floats(), atol=0.1 * self.floats().std() + 0.05)
        return same


class TestDeadly:
    def test_an_agent_that_is_killed_by_a_trial(self, stand: Stand, tmp_path: Path) -> None:
        """A graph that takes all memory is not tried again right after each restart."""
        stand.announce()
        stand.serve()
        stand.clock.advance(SETTLE_SECONDS)
        stand.int8.tick()
        assert len(stand.later.waiting) == 1  # and it dies there
        again = Stand(tmp_path / "int8", stand.shelf)
        again.form.want(stand.form._name)
        again.serve()
        again.pass_(SETTLE_SECONDS)
        again.pass_(SETTLE_SECONDS)
        assert [each["reason"] for each in again.journal.of("int8.refused")] == [
            "the agent ended while it was tried"
        ]
        assert again.exact
        again.pass_(SLOW_SECONDS)
        assert not again.exact

    def test_a_trial_that_ends_leaves_nothing(self, stand: Stand, tmp_path: Path) -> None:
        """The next start tries at once."""
        stand.announce()
        stand.serve()
        stand.pass_(SETTLE_SECONDS)
        assert not stand.exact
        assert not (tmp_path / "int8" / "trying").exists()

    def test_a_job_that_is_taken_up_anew_meanwhile(self, stand: Stand, tmp_path: Path) -> None:
        """The agent was not killed: what was tried is tried again as soon as any."""
        stand.announce()
        stand.serve()
        stand.clock.advance(SETTLE_SECONDS)
        stand.int8.tick()
        assert len(stand.later.waiting) == 1
        stand.int8.close()
        again = Stand(tmp_path / "int8", stand.shelf)
        again.form.want(stand.form._name)
        again.serve()
        again.pass_(SETTLE_SECONDS)
        assert again.journal.of("int8.refused") == []
        assert not again.exact
        stand.later.run()
        assert stand.exact, "nothing comes of it any more"

    def test_a_full_disk(self, stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
        """What cannot be put down is not tried."""

        def full(_path: Path, _data: bytes) -> None:
            raise StoreError("trying: cannot be written: no space left")

        stand.announce()
        stand.serve()
        monkeypatch.setattr("fedmill_agent.inference.int8.form.write_atomic", full)
        stand.pass_(SETTLE_SECONDS)
        assert stand.later.waiting == []
        assert stand.exact


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    """Int8 is twice as fast here, and there are windows enough."""
    monkeypatch.setattr(trial, "compared", lambda *_: (1.0, 0.5))
    shelf = Shelf.open(tmp_path)
    shelf.add(values(200))
    yield Stand(tmp_path / "int8", shelf)
    shelf.store.close()


class TestTaking:
    def test_takes_over_once_it_has_shown_itself(self, stand: Stand) -> None:
        """Not at once, and under the same version; the figures are told."""
        stand.announce()
        stand.serve()
        stand.pass_()
        assert stand.exact
        stand.pass_(SETTLE_SECONDS)
        assert not stand.exact
        assert stand.int8.serves
        [told] = stand.journal.of("int8.chosen")
        assert told["plain_ms"] == 1.0
        assert told["int8_ms"] == 0.5
        assert told["agreement"] >= 0.995
        assert stand.int8.figures["windows"] == 100
        assert stand.scorer.number == 1

    def test_windows_are_scored_meanwhile(self, stand: Stand) -> None:
        """The trial is somewhere else."""
        stand.announce()
        stand.serve()
        stand.clock.advance(SETTLE_SECONDS)
        stand.int8.tick()
        stand.int8.tick()
        assert len(stand.later.waiting) == 1, "one at a time"
        assert stand.exact
        stand.later.run()
        assert not stand.exact

    def test_a_new_version_is_float32_first(self, stand: Stand) -> None:
        """It gets its own scales and its own trial, with the same form."""
        stand.announce()
        stand.serve()
        stand.pass_(SETTLE_SECONDS)
        stand.versions.advance(seed=4, scale=0.3)
        stand.serve()
        assert stand.exact
        assert not stand.int8.serves
        stand.pass_(SETTLE_SECONDS)
        assert not stand.exact
        assert len(stand.journal.of("int8.chosen")) == 2

    def test_the_same_version_again_keeps_its_session(self, stand: Stand) -> None:
        """What is chosen anew for another reason does not begin again."""
        stand.announce()
        stand.serve()
        stand.pass_(SETTLE_SECONDS)
        stand.serve()
        assert not stand.exact

    def test_a_version_that_is_gone_meanwhile(self, stand: Stand) -> None:
        """What was found of it changes nothing."""
        stand.announce()
        stand.serve()
        stand.clock.advance(SETTLE_SECONDS)
        stand.int8.tick()
        stand.versions.advance(seed=4, scale=0.3)
        stand.serve()
        stand.later.run()
        assert stand.exact

    def test_a_candidate_that_does_not_serve(self, stand: Stand) -> None:
        """One that is only looked at is not tried; the one that serves stays int8."""
        stand.announce()
        stand.serve()
        stand.pass_(SETTLE_SECONDS)
        stand.versions.advance(seed=4, scale=0.3)
        made = stand.versions.newest
        stand.int8.offer(made.version, made.vector, session_of(stand.versions))
        stand.pass_(SETTLE_SECONDS)
        assert stand.int8.serves
        assert len(stand.journal.of("int8.chosen")) == 1


class TestRefusing:
    def test_without_a_form_float32_goes_on(self, stand: Stand) -> None:
        """Software before, or a model without convolutions."""
        stand.serve()
        stand.pass_(SETTLE_SECONDS)
        assert stand.exact
        assert stand.later.waiting == []

    def test_a_machine_without_gain_rests(
        self, stand: Stand, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The next versions are not tried for hours; then one is."""
        monkeypatch.setattr(trial, "compared", lambda *_: (1.0, 1.1))
        stand.announce()
        stand.serve()
        stand.pass_(SETTLE_SECONDS)
        assert stand.exact
        [told] = stand.journal.of("int8.refused")
        assert "less than 10 % faster" in told["reason"]
        stand.versions.advance(seed=4)
        stand.serve()
        stand.pass_(SETTLE_SECONDS)
        assert len(stand.journal.of("int8.refused")) == 1
        stand.pass_(SLOW_SECONDS)
        assert len(stand.journal.of("int8.refused")) == 2

    def test_few_windows_are_waited_for(self, stand: Stand) -> None:
        """It is no refusal; once there are enough it is tried."""
        stand.announce()
        stand.serve()
        outcome = trial.Outcome(reason="too few", early=True)
        stand.clock.advance(SETTLE_SECONDS)
        stand.int8.tick()
        [(_, done, _)] = stand.later.waiting
        stand.later.waiting.clear()
        done(outcome)
        assert stand.journal.of("int8.refused") == []
        stand.pass_(EARLY_SECONDS - 1)
        assert stand.exact
        stand.pass_(1)
        assert not stand.exact

    def test_a_damaged_form_is_told(self, stand: Stand) -> None:
        """Float32 goes on."""
        stand.announce()
        stand.serve()
        for path in stand.form._folder.glob("*.blob"):
            path.write_bytes(b"bits")
        stand.pass_(SETTLE_SECONDS)
        assert stand.exact
        [told] = stand.journal.of("int8.refused")
        assert "damaged" in told["reason"]


class TestLeaving:
    def test_a_window_beyond_the_range_is_scored_in_float32(self, stand: Stand) -> None:
        """A fault is not cut off at what was usual; the windows after it are int8 again."""
        stand.announce()
        stand.serve()
        stand.pass_(SETTLE_SECONDS)
        loud = values(1, scale=10.0)
        [said] = stand.scorer.score(windows(loud))
        [expected] = stand.plain[stand.scorer.version].run(loud)
        np.testing.assert_allclose(said.outputs, expected, rtol=1e-5)
        assert not stand.exact

    def test_where_many_are_beyond_it_is_calibrated_anew(self, stand: Stand) -> None:
        """Float32 meanwhile; then with the windows that have come since."""
        stand.announce()
        stand.serve()
        stand.pass_(SETTLE_SECONDS)
        for number in range(BATCHES):
            stand.scorer.score(windows(values(1, scale=10.0 if number % 2 else 0.5)))
        stand.pass_()
        [told] = stand.journal.of("int8.beyond")
        assert told["share"] == 0.5
        assert stand.exact
        assert not stand.int8.serves
        stand.pass_(EARLY_SECONDS)
        assert not stand.exact

    def test_a_few_beyond_are_no_reason(self, stand: Stand) -> None:
        """They go to float32 one by one."""
        stand.announce()
        stand.serve()
        stand.pass_(SETTLE_SECONDS)
        for number in range(BATCHES):
            stand.scorer.score(windows(values(1, scale=0.5 if number % 8 else 10.0)))
        stand.pass_()
        assert stand.int8.serves
        assert stand.journal.of("int8.beyond") == []

    def test_is_looked_at_again(self, stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was faster need not stay so."""
        stand.announce()
        stand.serve()
        stand.pass_(SETTLE_SECONDS)
        monkeypatch.setattr(trial, "compared", lambda *_: (1.0, 1.0))
        stand.pass_(AGAIN_SECONDS)
        assert stand.exact
        assert len(stand.journal.of("int8.refused")) == 1

    def test_speed_counts_at_the_batch_that_is_used(
        self, stand: Stand, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The median of what was scored lately."""
        sizes: list[int] = []

        def told(_plain: object, _int8: object, batch: np.ndarray, _now: object) -> object:
            sizes.append(len(batch))
            return 1.0, 0.5

        monkeypatch.setattr(trial, "compared", told)
        stand.announce()
        stand.serve()
        for count in (1, 7, 7):
            stand.scorer.score(windows(values(count, scale=0.5)))
        stand.pass_(SETTLE_SECONDS)
        assert sizes == [7]

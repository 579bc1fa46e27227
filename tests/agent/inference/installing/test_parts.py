# SPDX-License-Identifier: Apache-2.0
"""The book and the measurements of installations."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from tests.agent.inference.installing.rig import Rig, learned
from tests.agent.kit import Versions, a_job
from tests.agent.stand import notice_of

from fedmill_agent.inference.installing import trial
from fedmill_agent.inference.installing.gates import Gate
from fedmill_agent.inference.installing.held_out import HeldOut, errors_of
from fedmill_agent.inference.installing.states import (
    MOST_BROKEN,
    MOST_EVIDENCE,
    Installation,
    Slots,
    SlotsFile,
    alike,
    fingerprint,
)
from fedmill_agent.store.portions import WINDOWS
from fedmill_shared.errors import DataError, StoreError
from fedmill_shared.job import Serving
from fedmill_shared.messages import InstallState
from fedmill_shared.onnx_session import OnnxSession


def entry(number: int = 1, **fields: Any) -> Installation:
    """A version on its way."""
    installation = Installation(
        release=number,
        notice=notice_of(number),
        origin="release",
        state=InstallState.OFFERED,
        since_ns=7,
    )
    return structs.replace(installation, **fields)


class TestStates:
    @given(st.integers(0, 10**12), st.sampled_from([0, 1]), st.sampled_from(list(InstallState)))
    def test_come_back_whole(
        self, tmp_path_factory: pytest.TempPathFactory, release: int, along: int, state: str
    ) -> None:
        """Whatever is in them."""
        file = SlotsFile(tmp_path_factory.mktemp("slots"))
        assert file.read() is None
        slots = Slots(
            along=bool(along),
            current=notice_of(0),
            new=entry(state=state, evidence={"x_ms": 0.5}),
            release=release,
            broken=((release, "ab"),),
        )
        file.write(slots)
        assert file.read() == slots

    @given(st.binary(max_size=300))
    def test_damage_is_found(self, tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
        """Whatever is in the file instead; it is removed, so that the next start has none."""
        folder = tmp_path_factory.mktemp("slots")
        (folder / "slots.msgpack").write_bytes(data)
        with pytest.raises(DataError, match="damaged"):
            SlotsFile(folder).read()
        assert SlotsFile(folder).read() is None

    def test_a_flipped_bit_is_found(self, tmp_path: Path) -> None:
        """By the checksum."""
        file = SlotsFile(tmp_path)
        file.write(Slots(new=entry(), release=1))
        path = tmp_path / "slots.msgpack"
        data = bytearray(path.read_bytes())
        for place in range(0, len(data), 17):
            path.write_bytes(data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :])
            with pytest.raises(DataError):
                file.read()

    def test_a_disk_that_fails(self, tmp_path: Path) -> None:
        """Is not the file's fault: it stays."""
        (tmp_path / "slots.msgpack").mkdir()
        with pytest.raises(StoreError):
            SlotsFile(tmp_path).read()

    def test_only_the_newest_broken_ones_are_remembered(self) -> None:
        """Each once."""
        slots = Slots()
        for number in range(MOST_BROKEN + 5):
            slots = slots.broke(entry(number)).broke(entry(number))
        assert len(slots.broken) == MOST_BROKEN
        assert slots.broken[-1] == entry(MOST_BROKEN + 4).key

    def test_evidence_fits_a_message(self) -> None:
        """What is no number is left out, and the oldest of too many."""
        shown = entry().showing({f"e{i}": float(i) for i in range(20)} | {"bad": float("nan")})
        assert len(shown.evidence) == MOST_EVIDENCE
        assert list(shown.evidence)[-1] == "e19"

    def test_what_the_coordinator_hears_of(self) -> None:
        """Its own, while something of the agent's is on its way."""
        own = entry(0, origin="feedback", state=InstallState.SHADOWING)
        assert Slots(new=own, told=entry(3)).reported == entry(3)
        assert Slots(new=entry(4)).reported == entry(4)
        assert Slots(new=own).busy
        assert not Slots(new=entry(state=InstallState.REJECTED)).busy

    def test_a_version_is_the_same_on_every_way(self) -> None:
        """With or without its delta; in another graph it is another."""
        notice = notice_of(1)
        way = structs.replace(notice, base=notice_of(0).version, delta=notice.snapshot)
        assert fingerprint(structs.replace(way, evaluate=True, serve=False)) == fingerprint(notice)
        other = structs.replace(notice, template=structs.replace(notice.template, size=1))
        assert alike(notice, way)
        assert not alike(notice, other)
        assert not alike(None, notice)


class TestTrial:
    def test_seconds_of_a_real_session(self) -> None:
        """A hundred times the one window."""
        versions = Versions()
        session = OnnxSession.from_template(versions.architecture.template, versions.newest.vector)
        seconds = trial.seconds_of(session, np.zeros((1, 1, 8), np.float32))
        assert len(seconds) == trial.RUNS
        assert min(seconds) > 0

    def test_a_very_slow_one_is_not_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A few windows are enough."""
        ticks = iter(range(10**6))
        monkeypatch.setattr(trial, "perf_counter", lambda: float(next(ticks)))
        session: Any = SimpleNamespace(run=lambda _: None)
        seconds = trial.seconds_of(session, np.zeros((1, 1, 8), np.float32))
        assert 1 <= len(seconds) < 5
        verdict = trial.within_budget(
            Serving(budget_ms=500.0), session, lambda: session, np.zeros((1, 1, 8), np.float32)
        )
        assert not verdict.ok

    def test_memory_that_is_added(self) -> None:
        """What a session takes while it is there."""

        class Large:
            def run(self, _window: np.ndarray) -> None:
                """Use all of it."""
                self.weights = np.ones(8 << 20, np.float32)

        make: Any = Large
        added = trial.added_by(make, np.zeros((1, 1, 8), np.float32))
        assert 24 << 20 < added < 64 << 20
        session: Any = Large()
        window = np.zeros((1, 1, 8), np.float32)
        assert not trial.within_budget(Serving(budget_mib=8.0), session, make, window).ok


class TestHeldOut:
    def test_is_bounded_and_in_pairs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Never more windows, nor more at a time, than it says."""
        rig = Rig(tmp_path)
        right, wrong = rig.versions.newest.vector, learned(rig.versions, 4)
        rig.hold_out(right, 70)
        monkeypatch.setattr("fedmill_agent.inference.installing.held_out.MOST_WINDOWS", 40)
        template = rig.versions.architecture.template
        one, other = (OnnxSession.from_template(template, each) for each in (right, wrong))
        batches: list[int] = []

        def run(windows: np.ndarray) -> np.ndarray:
            batches.append(len(windows))
            return one.run(windows)

        held_out = HeldOut(rig.job, tmp_path / "windows.sqlite")
        assert held_out.enough()
        new, old = held_out.errors(run, other.run)
        assert (sum(batches), max(batches)) == (40, WINDOWS)
        assert new.tolist() == [0.0] * 40
        assert 0 < old.mean() < 1

    def test_without_a_store(self, tmp_path: Path) -> None:
        """There is nothing to compare on."""
        assert not HeldOut(a_job(), tmp_path / "none.sqlite").enough()

    def test_errors_of_classes(self) -> None:
        """No number is a wrong class."""
        outputs = np.array([[2, 1], [1, 2], [np.nan, 0]], np.float32)
        errors = errors_of(a_job(), ["good", "good", "good"], np.zeros(3), outputs)
        assert errors.tolist() == [0.0, 1.0, 1.0]

    def test_errors_of_numbers(self) -> None:
        """What the model learns is capped, and so is the truth here."""
        job = a_job(task="regression")
        job = structs.replace(job, labels=structs.replace(job.labels, cap=100.0))
        outputs = np.array([[90.0], [5.0]], np.float32)
        errors = errors_of(job, ["", ""], np.array([300.0, 7.0]), outputs)
        assert errors.tolist() == [10.0, 2.0]

    def test_errors_of_reconstructions(self) -> None:
        """The model says them itself."""
        job = a_job()
        job = structs.replace(job, job=structs.replace(job.job, task="reconstruction"))
        outputs = np.array([[0.5], [2.0]], np.float32)
        assert errors_of(job, ["", ""], np.zeros(2), outputs).tolist() == [0.5, 2.0]
        assert Gate.ERROR == "error"

# SPDX-License-Identifier: Apache-2.0
"""Releases that must not serve, each caught at its gate while the old model scores on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from tests.agent.inference.installing.rig import Rig, learned, near
from tests.agent.kit import Versions, a_job

from fedmill_agent.inference.installing.around import Around
from fedmill_shared.codec.frame import decode_frame
from fedmill_shared.errors import FrameError
from fedmill_shared.files import sha256
from fedmill_shared.messages import VersionNotice
from fedmill_shared.models.manifest import vector_bytes, version_of
from fedmill_shared.tensors import pack_tensor, unpack_tensor

Poison = Callable[[Rig], VersionNotice]


def not_a_number(rig: Rig) -> VersionNotice:
    """One weight is NaN; whoever made it expects NaN."""
    vector = near(rig.versions.newest.vector)
    vector[0] = np.nan
    return rig.version(vector)


def overflowing(rig: Rig) -> VersionNotice:
    """All weights are numbers, and what they lead to is not."""
    vector = rig.versions.newest.vector.copy()
    vector[: rig.versions.architecture.learned] = 3e38
    return rig.version(vector)


def of_other_units(rig: Rig) -> VersionNotice:
    """The very same, but for windows in m/s2."""
    rig.versions = Versions(a_job(unit="m/s^2"))
    return rig.versions.notice()


def of_other_classes(rig: Rig) -> VersionNotice:
    """The same windows, and another meaning of what it says."""
    job = a_job()
    labels = structs.replace(job.labels, classes=["worn", "good"])
    rig.versions = Versions(structs.replace(job, labels=labels))
    return rig.versions.notice()


def of_longer_windows(rig: Rig) -> VersionNotice:
    """The job as it was before it was changed."""
    rig.versions = Versions(a_job(length=16))
    return rig.versions.notice()


def of_another_layout(rig: Rig) -> VersionNotice:
    """Weights and manifest of two architectures."""
    notice = rig.version(near(rig.versions.newest.vector))
    vector = np.zeros(7, np.float32)
    return structs.replace(
        notice, version=version_of(vector), snapshot=rig.versions.put(vector_bytes(vector))
    )


def that_does_not_load(rig: Rig) -> VersionNotice:
    """What should be a graph is none."""
    notice = rig.version(near(rig.versions.newest.vector))
    return structs.replace(notice, template=rig.versions.put(b"GIF89a"))


def of_another_hash(rig: Rig) -> VersionNotice:
    """The weights are whole, and not those of the version."""
    return structs.replace(rig.version(near(rig.versions.newest.vector)), version=sha256(b"?"))


def of_no_vector(rig: Rig) -> VersionNotice:
    """Not even float32 numbers."""
    notice = rig.version(near(rig.versions.newest.vector))
    return structs.replace(notice, snapshot=rig.versions.put(b"12345"), version=sha256(b"?"))


def of_impossible_size(rig: Rig) -> VersionNotice:
    """Nothing of it is fetched."""
    notice = rig.version(near(rig.versions.newest.vector))
    return structs.replace(notice, template=structs.replace(notice.template, size=1 << 40))


def of_another_canary(rig: Rig) -> VersionNotice:
    """It computed something else where it was made."""
    notice = rig.version(near(rig.versions.newest.vector))
    outputs = unpack_tensor(notice.canary_outputs) + np.float32(1)
    return structs.replace(notice, canary_outputs=pack_tensor(outputs))


def of_older_weights(rig: Rig) -> VersionNotice:
    """The canary is of another version than the weights."""
    other = rig.version(learned(rig.versions, 3))
    notice = rig.version(near(rig.versions.newest.vector))
    return structs.replace(notice, canary_outputs=other.canary_outputs)


class TestPoison:
    @pytest.mark.parametrize(
        ("poison", "gate", "reason"),
        [
            (not_a_number, "numbers", "1 of 61 weights are no finite numbers"),
            (overflowing, "numbers", "outputs for the canary windows are no finite numbers"),
            (of_other_units, "schema", "unit of signal vibration is m/s^2, the job's is g"),
            (of_other_classes, "schema", "classes is ['worn', 'good'], the job's is ['good'"),
            (of_longer_windows, "schema", "takes windows of (1, 16)"),
            (of_another_layout, "schema", "(7,)"),
            (that_does_not_load, "graph", "the model cannot be loaded"),
            (of_another_hash, "hash", "do not have the announced SHA-256"),
            (of_no_vector, "hash", "5 bytes are no float32"),
            (of_impossible_size, "hash", "exceeds"),
            (of_another_canary, "canary", "largest error 1"),
            (of_older_weights, "canary", "canary"),
        ],
    )
    def test_is_caught_at_its_gate(
        self, tmp_path: Path, poison: Poison, gate: str, reason: str
    ) -> None:
        """It says which and why, leaves nothing behind, and is never tried again."""
        rig = Rig(tmp_path)
        first = rig.follow()
        good = rig.version(near(rig.versions.newest.vector, 9))
        versions = rig.versions
        before = {path.name for path in rig.shelf.folder.glob("*.blob")}
        notice = poison(rig)
        rig.release(notice)
        assert rig.told == ("rejected", gate)
        assert reason in rig.report.reason
        assert rig.scores_with(first)
        assert {path.name for path in rig.shelf.folder.glob("*.blob")} == before
        assert rig.hurried
        for again in (False, True):
            rig.journal.entries.clear()
            rig.release(notice)
            assert rig.states() == []
            if not again:
                rig.start()
        assert rig.told == ("rejected", gate)
        assert rig.scores_with(first)
        rig.versions = versions
        rig.release(good, 2)
        assert rig.scores_with(good)

    def test_the_same_bytes_under_a_higher_number_are_tried(self, tmp_path: Path) -> None:
        """They may have been refused for what this machine was doing."""
        rig = Rig(tmp_path, budget_ms=1e-6)
        rig.follow()
        notice = rig.version(near(rig.versions.newest.vector))
        for number in (1, 2):
            rig.release(notice, number)
            assert (rig.told, rig.report.release) == (("rejected", "budget"), number)

    def test_a_truncated_delta_is_no_reason(self, tmp_path: Path) -> None:
        """The version comes whole instead."""
        rig = Rig(tmp_path)
        rig.follow()
        made = rig.versions.advance()
        with pytest.raises(FrameError):
            decode_frame(made.frame[:-9], elements=rig.versions.architecture.learned)
        notice = rig.versions.notice()
        truncated = structs.replace(notice, delta=rig.versions.put(made.frame[:-9]))
        rig.release(truncated)
        assert rig.scores_with(notice)
        assert len(rig.journal.of("version.damaged")) == 1

    def test_an_unknown_base_is_no_reason(self, tmp_path: Path) -> None:
        """Neither is a delta on what is not here."""
        rig = Rig(tmp_path)
        rig.follow()
        rig.versions.advance()
        notice = structs.replace(rig.versions.notice(), base=sha256(b"a version nobody has"))
        rig.release(notice)
        assert rig.scores_with(notice)

    def test_a_signature_that_nobody_can_check(self, tmp_path: Path) -> None:
        """An agent without keys takes releases that carry none."""
        rig = Rig(tmp_path)
        first = rig.follow()
        rig.release(rig.version(near(rig.versions.newest.vector)), signature=b"signed")
        assert rig.told == ("rejected", "signature")
        assert rig.asked == []
        assert rig.scores_with(first)

    def test_a_verifier_decides(self, tmp_path: Path) -> None:
        """Whoever has keys gives one in."""

        class Trusting:
            def verify(self, notice: object) -> None:
                """Everybody is trusted."""

        rig = Rig(tmp_path)
        rig.follow()
        around: Any = Around(rig.job, rig.clock, rig.journal, verifier=Trusting())
        rig.installer._around = around
        notice = rig.version(near(rig.versions.newest.vector))
        rig.release(notice, signature=b"signed")
        assert rig.scores_with(notice)


class TestWorse:
    def test_a_worse_one_is_told_by_the_labels(self, tmp_path: Path) -> None:
        """Also where it comes along with what is followed: it is trained from, and not served."""
        rig = Rig(tmp_path, job=a_job())
        first = rig.follow()
        rig.hold_out(rig.versions.newest.vector)
        vector = rig.versions.newest.vector.copy()
        size = rig.versions.architecture.learned
        vector[:size] = -vector[:size]
        bad = rig.version(vector)
        rig.deployment.announce(bad, retained=True)
        rig.answer()
        assert rig.deployment.followed == bad
        assert rig.scores_with(first)
        assert rig.told == ("rejected", "error")
        assert rig.report.evidence["labelled_windows"] == 30.0
        assert rig.report.evidence["error_serving"] == 0.0
        assert rig.report.evidence["error_new"] > 0.1
        assert "worse by" in rig.report.reason
        rig.start()
        assert rig.deployment.followed == bad
        assert rig.scores_with(first)

    def test_a_better_one_serves(self, tmp_path: Path) -> None:
        """What was right is what the labels say."""
        rig = Rig(tmp_path)
        rig.follow()
        better = learned(rig.versions, 4)
        rig.hold_out(better)
        notice = rig.version(better)
        rig.release(notice)
        assert rig.scores_with(notice)
        assert rig.report.evidence["error_new"] == 0.0

    def test_with_few_labels_it_is_not_asked(self, tmp_path: Path) -> None:
        """Fewer than ``min_labels`` say nothing."""
        rig = Rig(tmp_path)
        rig.follow()
        rig.hold_out(rig.versions.newest.vector, 19)
        notice = rig.version(-near(rig.versions.newest.vector))
        rig.release(notice)
        assert rig.scores_with(notice)

    def test_a_store_that_cannot_be_read_says_nothing(self, tmp_path: Path) -> None:
        """It is told, and the version is not refused for it."""
        rig = Rig(tmp_path)
        rig.follow()
        (rig.folder / "windows.sqlite").write_bytes(b"rust" * 1000)
        notice = rig.version(near(rig.versions.newest.vector))
        rig.release(notice)
        assert rig.scores_with(notice)
        assert rig.journal.of("install.unmeasured")

    def test_a_slow_graph(self, tmp_path: Path) -> None:
        """The first one as well: nothing is compared, it is measured."""
        rig = Rig(tmp_path, budget_ms=1e-6)
        notice = rig.follow()
        assert rig.deployment.followed == notice
        assert rig.live() == []
        assert rig.told == ("rejected", "budget")
        assert rig.report.evidence["latency_p99_ms"] > 1e-6
        assert "serving.budget_ms is 1e-06" in rig.report.reason

    def test_within_its_budget(self, tmp_path: Path) -> None:
        """And what it took is told."""
        rig = Rig(tmp_path, budget_ms=3_600_000.0, budget_mib=1000.0)
        notice = rig.follow()
        assert rig.scores_with(notice)
        assert 0.0 < rig.report.evidence["latency_p99_ms"] < 3_600_000.0
        assert 0.0 <= rig.report.evidence["memory_added_mib"] < 1000.0

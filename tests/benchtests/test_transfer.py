# SPDX-License-Identifier: Apache-2.0
"""The bench of transfers: its model, its reading of logs, its figures, and a small real run."""

from argparse import Namespace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bench import transfer
from tests.bench.fleet import CLASSES, rig_plan
from tests.benchtests.measured import measured

from fedmill_shared.errors import UsageError
from fedmill_shared.job import Mlp
from fedmill_shared.models import build, manifest_of


class TestModel:
    @given(st.integers(transfer.SMALLEST_MIB, transfer.LARGEST_MIB))
    def test_size_is_within_a_percent(self, mib: int) -> None:
        """Of what was asked for, by the formula of a perceptron."""
        first, second = transfer.widths(mib * 2**18)
        size = first * (transfer.LENGTH + 1) + second * (first + 1)
        size += len(CLASSES) * (second + 1)
        assert abs(size - mib * 2**18) <= 0.01 * mib * 2**18
        assert max(first, second) <= transfer.LARGEST_WIDTH

    def test_size_is_that_of_the_model(self) -> None:
        """A model of one MiB, its normaliser included, has one MiB."""
        model = Mlp(hidden=transfer.widths(2**18))
        plan = rig_plan("x", model, agents=1, length=transfer.LENGTH, rounds=1, live=False)
        assert manifest_of(build(plan.job, 0)).size * 4 == pytest.approx(2**20, rel=0.01)

    @pytest.mark.parametrize("mib", [-1, 0, 65])
    def test_impossible_size(self, mib: int, tmp_path: Path) -> None:
        """It is refused before anything is started."""
        with pytest.raises(UsageError):
            transfer.run(Namespace(mib=mib, folder=tmp_path / "run"))
        with pytest.raises(UsageError):
            transfer.widths(100)


class TestLogs:
    def test_fields_of_an_event(self, tmp_path: Path) -> None:
        """Lines of the event in question, whatever else is in the log."""
        log = tmp_path / "a.log"
        log.write_text(
            "timestamp=2026-01-01T00:00:00Z level=info event=agent.started agent=a\n"
            "timestamp=2026-01-01T00:00:01Z level=info event=blob.received blob=ab bytes=3000000 "
            'seconds=0.5 resumed_bytes=1000000 job=press note="two words event=x"\n'
            "Traceback (most recent call last):\n"
        )
        [fields] = transfer.events(log, "blob.received")
        assert fields["note"] == '"two words event=x"'
        found = transfer.Transfer.of(fields)
        assert found == transfer.Transfer(3_000_000, 1_000_000, 0.5)
        assert found.speed == 4.0
        assert list(transfer.events(tmp_path / "none.log", "x")) == []

    def test_bytes_that_were_there_do_not_count(self) -> None:
        """A resumed transfer is not faster for what it did not transfer."""
        assert transfer.Transfer.of({"bytes": "2000000", "seconds": "2.0"}).speed == 1.0
        assert transfer.Transfer(10, 10, 0.0).speed == 0.0


class TestFigures:
    @pytest.mark.parametrize(("seconds", "ok"), [(1.3, True), (1.4, False)])
    def test_the_clean_download_has_a_target(self, seconds: float, *, ok: bool) -> None:
        """15 MB/s; losses and a kill may cost what they cost."""
        slow = transfer.Transfer(20_000_000, 1, 100.0)
        clean = transfer.Transfer(20_000_000, 0, seconds)
        found = transfer.download_figures(clean, slow, 3, slow)
        assert [each.ok for each in found] == [ok, True, True, True, True, True]

    def test_faults_must_have_happened(self) -> None:
        """Without a lost block or a saved byte the bench has not shown what it says."""
        clean = transfer.Transfer(20_000_000, 0, 1.0)
        found = transfer.download_figures(clean, clean, 0, clean)
        assert [each.name for each in found if not each.ok] == [
            "blocks lost",
            "bytes that the kill did not lose",
        ]

    def test_what_is_not_logged_is_no_figure(self) -> None:
        """A coordinator that does not tell of updates, and one that does."""
        assert transfer.other_figures([], []) == []
        one = transfer.Transfer(1_000_000, 0, 0.5)
        assert [each.value for each in transfer.other_figures([one, one], [one])] == [2.0, 2.0]


@pytest.mark.system
def test_small_run(tmp_path: Path) -> None:
    """Every transfer of a model of 8 MiB happens, whatever the machine makes of the target."""
    figures = measured("transfer", "--mib", "8", "--folder", str(tmp_path / "run"))
    assert figures["snapshot"].value == pytest.approx(8 * 2**20, rel=0.01)
    assert figures["blocks lost"].ok
    assert figures["bytes that the kill did not lose"].ok
    assert figures["upload of an update, fp32"].value > 0
    assert figures["broadcast of version 0"].value > 0

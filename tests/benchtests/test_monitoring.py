# SPDX-License-Identifier: Apache-2.0
"""What the benches of process monitoring make of invented rigs."""

import gzip
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from tests.bench import skab, tep
from tests.bench.skab import Counts
from tests.laboratory import rigs
from tests.laboratory.rigs import SKAB_SIGNALS, Experiment

from fedmill_shared.errors import DataError


def experiment(seed: int, rows: int = 500) -> Experiment:
    """Eight signals that follow three, of which one goes its own way from row 450 on."""
    generator = np.random.default_rng(seed)
    mixing = np.random.default_rng(1).standard_normal((3, 8))
    values = generator.standard_normal((rows, 3)) @ mixing
    values += 0.2 * generator.standard_normal((rows, 8))
    values[450:, 3] += 6.0
    return Experiment(f"rig/{seed}", 10.0 + values, np.arange(rows) >= 450)


class TestCounts:
    def test_by_hand(self) -> None:
        """Three hits, one false alarm, two missed, four quiet rows."""
        counts = Counts(3, 1, 2, 4)
        assert counts.f1 == pytest.approx(6 / 9)
        assert counts.far == pytest.approx(1 / 5)
        assert counts.mar == pytest.approx(2 / 5)
        assert Counts().f1 == Counts().far == Counts().mar == 0.0

    def test_from_rows(self) -> None:
        """Each row is counted once, and experiments add up."""
        alarms, abnormal = np.array([True, True, False, False]), np.array([True, False] * 2)
        assert Counts.of(alarms, abnormal) == Counts(1, 1, 1, 1)
        assert skab.total([Counts(1, 2, 3, 4), Counts(10, 20, 30, 40)]) == Counts(11, 22, 33, 44)


class TestSkab:
    def test_a_fault_of_one_signal_is_found(self) -> None:
        """By T2 and Q, and by the autoencoder, with few false alarms."""
        rig = experiment(3)
        for counts in (
            skab.by_components(rig, skab.ALL),
            skab.by_theory(rig),
            skab.by_autoencoder(rig, skab.ALL, 5),
        ):
            assert counts.mar < 0.2
            assert counts.far < 0.3

    def test_judged_rows_change_no_limit(self) -> None:
        """Whatever comes later, a row is judged by what was taught: no peeking."""
        rig = experiment(4)
        later = rig.rows.copy()
        later[470:] *= 100.0
        changed = Experiment(rig.name, later, rig.abnormal)
        rows = slice(0, 470)
        for setting in (skab.ALL, skab.SHIPPED):
            told = [
                skab.by_components(Experiment("", each.rows[rows], each.abnormal[rows]), setting)
                for each in (rig, changed)
            ]
            assert told[0] == told[1]

    def test_settings_are_chosen_without_the_experiment_itself(self) -> None:
        """The second ones are better on the first experiment alone, which must not count."""
        good, bad = Counts(10, 0, 0, 10), Counts(5, 5, 5, 5)
        table = {skab.ALL: [bad, good, good], skab.SHIPPED: [good, bad, bad]}
        assert skab.chosen_on_others(table)[0] == bad

    def test_a_federation_finds_what_all_rows_do(self) -> None:
        """Through updates, frames, the mean and a version: all three figures hold."""
        figures = skab.together([experiment(seed) for seed in range(3)])
        assert [each.ok for each in figures] == [True] * 5
        assert all(each.value < 1e-6 for each in figures[:3])


class TestTep:
    def test_limits_come_from_unseen_rows(self) -> None:
        """False alarms on further rows are about as many as said; a fault is found."""
        generator = np.random.default_rng(5)
        mixing = generator.standard_normal((10, 52))

        def rows(count: int) -> np.ndarray:
            noise = 0.5 * generator.standard_normal((count, 52))
            return np.asarray(generator.standard_normal((count, 10)) @ mixing + noise)

        monitor = tep.Monitor(rows(500), rows(960), 1)
        assert monitor.alarms(rows(4000)).mean() < 0.04
        fault = rows(960)
        fault[rigs.TEP_BEGIN :, 7] += 20.0
        assert tep.detected(monitor, fault) > 95


class TestRecordings:
    def test_skab_as_it_lies_on_disk(self, tmp_path: Path) -> None:
        """Semicolons, a header, and the folder without labels left alone."""
        (tmp_path / "valve1").mkdir()
        (tmp_path / "anomaly-free").mkdir()
        (tmp_path / "anomaly-free" / "a.csv").write_text("x\n")
        header = ";".join(["datetime", *SKAB_SIGNALS, "anomaly", "changepoint"])
        lines = [header, "2020-03-09;1;2;3;4;5;6;7;8;0.0;0.0", "2020-03-09;1;2;3;4;5;6;7;9;1.0;0.0"]
        (tmp_path / "valve1" / "0.csv").write_text("\n".join(lines) + "\n")
        [found] = rigs.skab(tmp_path)
        assert found.name == "valve1/0"
        assert found.rows.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5, 6, 7, 9]]
        assert found.abnormal.tolist() == [False, True]
        (tmp_path / "valve1" / "0.csv").write_text("a;b\n1;2\n")
        with pytest.raises(DataError, match="not an experiment of SKAB"):
            rigs.skab(tmp_path)

    def test_tep_as_it_lies_on_disk(self, tmp_path: Path) -> None:
        """The normal rows to fit are stored transposed."""
        for name, shape in (("d00", (52, 5)), ("d00_te", (9, 52)), ("d03_te", (9, 52))):
            with gzip.open(tmp_path / f"{name}.dat.gz", "wt") as file:
                np.savetxt(file, np.ones(shape))
        fitted, normal, faults = rigs.tep(tmp_path)
        assert (fitted.shape, normal.shape, [*faults]) == ((5, 52), (9, 52), [3])

    def test_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What to do is told."""
        monkeypatch.setenv("FEDMILL_DATA", str(tmp_path))
        for bench, options in ((skab, Namespace(epochs=1)), (tep, Namespace(rows=1))):
            with pytest.raises(DataError, match="no recordings in") as error:
                bench.run(options)
            assert error.value.remedy == "set FEDMILL_DATA"
        with pytest.raises(DataError, match="no experiments"):
            rigs.skab(tmp_path)
        with pytest.raises(DataError, match="no runs"):
            rigs.tep(tmp_path)

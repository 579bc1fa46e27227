# SPDX-License-Identifier: Apache-2.0
"""The bench of aggregation: its frames, its measuring, its figures, and a small real run."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tests.bench import aggregate
from tests.benchtests.measured import measured

from fedmill_coordinator.aggregation import Update
from fedmill_coordinator.aggregation.norms import norm_of
from fedmill_shared.codec.base import Dense, Payload, Quantised, Sparse, vector_of
from fedmill_shared.errors import FedmillError

ELEMENTS = 9000
KINDS = {"int8 raw": Quantised, "int8": Quantised, "stc-100": Sparse, "fp32": Dense}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Three frames of every codec."""
    for method, codec in aggregate.METHODS.items():
        aggregate.write_frames(tmp_path / method, codec, ELEMENTS, 3)
    return tmp_path


def files(place: Path, method: str, count: int) -> list[Update]:
    """A round from the frames in ``place``."""
    paths = sorted((place / method).iterdir())
    return aggregate.round_of(count, [partial(aggregate.mapped, p, ELEMENTS) for p in paths])


class TestFrames:
    @pytest.mark.parametrize("method", aggregate.METHODS)
    def test_are_those_of_the_codec(self, place: Path, method: str) -> None:
        """They open to the payload that the coordinator sums, with the norm that is said."""
        update = files(place, method, 7)[0]
        payload: Payload = update.open()
        assert isinstance(payload, KINDS[method])
        assert update.norm == norm_of(payload)
        frame = next((place / method).glob("000")).read_bytes()
        same = vector_of(aggregate.in_memory(frame, ELEMENTS))
        assert np.array_equal(vector_of(payload), same)

    def test_raw_is_not_packed(self, tmp_path: Path) -> None:
        """One byte for each element and a little; the shipped codec packs them."""
        raw, packed = (
            aggregate.write_frames(tmp_path / name, aggregate.METHODS[name], 100_000, 1)[0]
            for name in ("int8 raw", "int8")
        )
        assert 100_000 < raw < 101_000
        assert packed < 0.85 * raw

    def test_a_round_takes_them_in_turn(self, place: Path) -> None:
        """Seven updates from three frames: the fourth is the first again, of another agent."""
        updates = files(place, "fp32", 7)
        vectors = [vector_of(each.open()) for each in updates]
        assert len({each.agent for each in updates}) == 7
        assert np.array_equal(vectors[0], vectors[3])
        assert not np.array_equal(vectors[0], vectors[1])

    def test_each_opening_reads_anew(self, place: Path) -> None:
        """Nothing is kept from one opening to the next."""
        update = files(place, "int8 raw", 1)[0]
        first, second = update.open(), update.open()
        assert isinstance(first, Quantised)
        assert isinstance(second, Quantised)
        assert not np.shares_memory(first.levels, second.levels)


class TestMeasure:
    def test_fastest_of_the_passes(self) -> None:
        """The work is done so often, and the shortest time counts."""
        passes = 0

        def work() -> None:
            nonlocal passes
            passes += 1

        wall, cpu = aggregate.fastest(work)
        assert passes == aggregate.PASSES
        assert wall > 0
        assert cpu >= 0

    def test_peak_is_what_was_taken_on_the_way(self) -> None:
        """Though it was given back, and whatever had been taken and given back before."""
        np.ones(300_000_000, np.int8)
        assert 40 < aggregate.peak(lambda: np.ones(50_000_000, np.int8)) < 80
        assert aggregate.peak(lambda: None) < 20

    @pytest.mark.parametrize("name", [*aggregate.METHODS, aggregate.CHECK, *aggregate.PEERS])
    def test_every_case_runs(self, place: Path, name: str) -> None:
        """In this process, on a small round."""
        assert aggregate.case(place, name, 2, 10, ELEMENTS).seconds > 0

    def test_peers_compute_the_mean(self) -> None:
        """Both add each vector with its weight."""
        vectors = aggregate.vectors_of(50)
        expected = np.mean([vectors[i % len(vectors)] for i in range(20)], axis=0)
        for peer in aggregate.PEER_SUMS.values():
            assert np.allclose(peer(20, vectors), expected, atol=1e-6)


class TestFigures:
    def test_targets_are_those_of_one_core(self) -> None:
        """int8 without packing and stc-100 within half a second and 64 MiB."""
        found = aggregate.Measured(0.6, 0.4, 70.0)
        for method in aggregate.METHODS:
            figures = {f.name: f for f in aggregate.figures_of(method, 1, found)}
            limited = method in ("int8 raw", "stc-100")
            assert figures[f"{method}: open and sum"].ok is not limited
            assert figures[f"{method}: processor time of that"].value == 0.4
            assert figures[f"{method}: extra memory"].target == "<= 64"
            assert not figures[f"{method}: extra memory"].ok

    def test_more_workers_have_no_target(self) -> None:
        """They are only reported."""
        figures = aggregate.figures_of("int8 raw", 2, aggregate.Measured(9.0, 9.0, 900.0))
        assert [each.name for each in figures] == [
            "int8 raw, 2 workers: open and sum",
            "int8 raw, 2 workers: processor time of that",
            "int8 raw, 2 workers: extra memory",
        ]
        assert all(each.ok for each in figures)


class TestRun:
    def test_small(self, tmp_path: Path) -> None:
        """The command measures everything, each in a process of its own."""
        size = ["--updates", "20", "--params", "5000", "--folder", str(tmp_path / "run")]
        figures = measured("aggregate", *size)
        assert len(figures) == 4 * 7 + 3
        assert figures["int8 raw: open and sum"].value > 0
        assert figures["stc-100: bytes of an update"].value < 500

    def test_a_case_that_fails(self, tmp_path: Path) -> None:
        """Is an error with what it said."""
        with pytest.raises(FedmillError, match=r"(?s)case fp32: .*FileNotFoundError"):
            aggregate._measure(tmp_path, "fp32", 1, 1, 1)

# SPDX-License-Identifier: Apache-2.0
from collections.abc import Sequence
from itertools import permutations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedmill_shared.errors import DataError, FrameError
from fedmill_shared.signals.moments import (
    CELLS,
    Cell,
    Moments,
    agree,
    collect,
    merge,
    validate,
)

Inputs = NDArray[np.float32]
RESOLUTION = (2.0, 0.05, 5.0)
CONDITIONS = np.array(
    [[0, 0, 100], [10, 0.25, 100], [20, 0.7, 100], [25, 0.62, 60], [35, 0.84, 100], [42, 0.84, 100]]
)


def engine(seed: int, windows: int = 40, length: int = 15) -> Inputs:
    """Two sensors and three settings that jump between six flight conditions, with jitter."""
    generator = np.random.default_rng(seed)
    state = generator.integers(0, 6, (windows, length))
    settings_ = CONDITIONS[state] + generator.uniform(-1, 1, (windows, length, 3)) * (
        0.008,
        0.002,
        0,
    )
    speed = 9046 + 22 * generator.normal(size=(windows, length)) - 300 * state
    constant = 518.67 + 10 * state
    stacked = np.concatenate((speed[..., None], constant[..., None], settings_), axis=2)
    return stacked.transpose(0, 2, 1).astype(np.float32)


def flat(parts: Sequence[Inputs]) -> NDArray[np.float64]:
    """All samples (n, signals) in one place, as no coordinator ever sees them."""
    rows = [part.transpose(0, 2, 1).reshape(-1, part.shape[1]) for part in parts]
    return np.concatenate(rows).astype(np.float64)


def cell(key: tuple[int, ...] = (), count: int = 10, mean: float = 1.0, m2: float = 2.0) -> Cell:
    """A cell of one signal."""
    return Cell(key, count, [mean], [m2])


class TestPooled:
    @settings(max_examples=40)
    @given(st.integers(0, 2**32), st.integers(1, 5), st.floats(-1e4, 1e4), st.floats(0.01, 100))
    def test_equals_pooled_samples(
        self, seed: int, agents: int, level: float, spread: float
    ) -> None:
        """Mean and deviation over any number of agents are those of all samples together."""
        generator = np.random.default_rng(seed)
        parts = [
            (level + spread * generator.normal(size=(generator.integers(2, 9), 2, 6))).astype("f4")
            for _ in range(agents)
        ]
        found = agree(merge([collect(part, [0, 1], [], []) for part in parts]), [], [0, 1], [])
        pooled = flat(parts)
        np.testing.assert_allclose(found.mean[0], pooled.mean(axis=0), rtol=1e-9)
        np.testing.assert_allclose(found.scale[0], pooled.std(axis=0), rtol=1e-9)
        assert found.counts.tolist() == [len(pooled)]

    def test_a_large_offset_keeps_its_digits(self) -> None:
        """9046 +- 22 over a hundred thousand samples: no cancellation."""
        parts = [engine(seed, windows=600, length=30) for seed in range(4)]
        found = agree(merge([collect(p, [0], [], []) for p in parts]), [], [0], [])
        np.testing.assert_allclose(found.scale[0, 0], flat(parts)[:, 0].std(), rtol=1e-10)

    def test_several_blocks_equal_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """However few samples are handled at a time, the result is the same."""
        inputs = engine(1)
        whole = agree(collect(inputs, [0, 1], [2, 3, 4], RESOLUTION), RESOLUTION, [0, 1], [2, 3, 4])
        monkeypatch.setattr("fedmill_shared.signals.moments._BLOCK", 1)
        parts = agree(collect(inputs, [0, 1], [2, 3, 4], RESOLUTION), RESOLUTION, [0, 1], [2, 3, 4])
        np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-12)
        np.testing.assert_allclose(parts.scale, whole.scale, rtol=1e-9)

    def test_order_and_grouping_do_not_matter(self) -> None:
        """Merging is commutative and associative up to rounding."""
        reports = [collect(engine(seed), [0, 1], [2, 3, 4], RESOLUTION) for seed in range(3)]
        wanted = agree(merge(reports), RESOLUTION, [0, 1], [2, 3, 4])
        for a, b, c in permutations(reports):
            for way in (merge([a, b, c]), merge([a, merge([b, c])]), merge([merge([a, b]), c])):
                found = agree(way, RESOLUTION, [0, 1], [2, 3, 4])
                np.testing.assert_allclose(found.mean, wanted.mean, rtol=1e-12)
                np.testing.assert_allclose(found.scale, wanted.scale, rtol=1e-10)

    def test_literal_numbers(self) -> None:
        """(0 x 4, 2 x 4) has mean 1 and M2 8; with (4 x 8): mean 2.5, M2 44."""
        low = np.array([0, 2] * 4, np.float32).reshape(4, 1, 2)
        high = np.full((4, 1, 2), 4, np.float32)
        assert collect(low, [0], [], []).cells == [Cell((), 8, [1.0], [8.0])]
        both = merge([collect(low, [0], [], []), collect(high, [0], [], [])])
        assert both.cells == [Cell((), 16, [2.5], [44.0])]


class TestConditions:
    def test_six_flight_conditions_are_six_regimes(self) -> None:
        """Altitude 25 and 35 kft lie on cell borders, and are still one condition each."""
        parts = [engine(seed) for seed in range(3)]
        reports = [collect(part, [0, 1], [2, 3, 4], RESOLUTION) for part in parts]
        assert max(len(report.cells) for report in reports) > 6
        found = agree(merge(reports), RESOLUTION, [0, 1], [2, 3, 4])
        np.testing.assert_allclose(found.centroids, CONDITIONS, atol=0.01)
        pooled = flat(parts)
        nearest = ((pooled[:, None, 2:] - CONDITIONS) ** 2).sum(axis=2).argmin(axis=1)
        for regime in range(6):
            mine = pooled[nearest == regime]
            np.testing.assert_allclose(found.mean[regime], mine[:, :2].mean(axis=0), rtol=1e-9)
            np.testing.assert_allclose(found.scale[regime, 0], mine[:, 0].std(), rtol=1e-9)
            assert found.scale[regime, 1] == 1.0
        assert found.resolution.tolist() == list(RESOLUTION)

    def test_touching_cells_chain_into_one_regime(self) -> None:
        """Keys 0, 1, 2 form a chain, 4 stands apart; order is by key."""
        told = Moments([cell((key,), mean=key) for key in (4, 2, 0, 1)])
        found = agree(told, [1.0], [0], [0])
        assert found.mean.tolist() == [[1.0], [4.0]]
        assert found.counts.tolist() == [30, 10]

    def test_small_cells_go_to_the_nearest(self) -> None:
        """Three samples at 6 join the cell at 10 rather than the one at 0."""
        values = np.array([0] * 8 + [10] * 8 + [6] * 3, np.float32).reshape(-1, 1, 1)
        told = collect(values, [0], [0], [1.0])
        assert [(c.key, c.count) for c in told.cells] == [((0,), 8), ((10,), 11)]
        assert told.cells[1].mean == pytest.approx([98 / 11])

    def test_a_report_has_at_most_256_cells(self) -> None:
        """A continuous regime signal keeps its fullest cells; no sample is lost."""
        values = np.repeat(np.arange(700), 9).astype(np.float32).reshape(-1, 1, 1)
        told = collect(values, [0], [0], [0.1])
        assert len(told.cells) == CELLS
        assert sum(c.count for c in told.cells) == 6300
        assert sum(c.count * c.mean[0] for c in told.cells) == pytest.approx(values.sum())

    def test_a_wide_report_fits_a_message(self) -> None:
        """With 256 signals there are fewer cells, and the report stays below the packet limit."""
        places = np.repeat(np.arange(200), 8)
        values = np.random.default_rng(0).normal(size=(1600, 256, 1)).astype(np.float32)
        values[:, 0, 0] = places * 100
        told = collect(values, list(range(256)), [0], [1.0])
        assert 1 < len(told.cells) < 200
        assert len(msgspec.msgpack.encode(told)) < 290_000

    def test_samples_far_outside_any_grid_are_harmless(self) -> None:
        """A regime value of 1e29 is a cell like any other, and a valid one."""
        values = np.array([0.0] * 8 + [1e29] * 8, np.float32).reshape(-1, 1, 1)
        told = collect(values, [0], [0], [1e-6])
        validate(told, signals=1, regimes=1)
        assert len(told.cells) == 2


class TestWhatStaysHome:
    def test_fewer_than_eight_samples_are_not_told(self) -> None:
        """Seven samples or targets would give single values away."""
        few = np.ones((7, 1, 1), np.float32)
        assert collect(few, [0], [], [], np.ones(7)) == Moments([])

    def test_bad_samples_do_not_count(self) -> None:
        """A sample with NaN or an absurd value in any signal is left out of all of them."""
        values = np.arange(40, dtype=np.float32).reshape(10, 2, 2)
        values[0, 0, 0], values[1, 1, 1] = np.nan, 2e30
        (only,) = collect(values, [0, 1], [], []).cells
        assert only.count == 18
        rows = np.delete(flat([values]), [0, 3], axis=0)
        assert only.mean == pytest.approx(rows.mean(axis=0).tolist())

    def test_no_windows_at_all(self) -> None:
        """An agent without windows tells nothing, and a fleet of such agents cannot agree."""
        nothing = collect(np.zeros((0, 3, 4), np.float32), [0, 1], [2], [1.0])
        assert nothing == Moments([])
        with pytest.raises(DataError, match="enough training windows"):
            agree(merge([nothing, nothing]), [1.0], [0, 1], [2])


class TestTargets:
    def test_targets_are_pooled_too(self) -> None:
        """Offset and scale of the target are those of all targets together."""
        generator = np.random.default_rng(5)
        parts = [generator.normal(80, 40, size) for size in (8, 30, 200)]
        inputs = [np.zeros((len(part), 1, 1), np.float32) for part in parts]
        reports = [collect(i, [0], [], [], part) for i, part in zip(inputs, parts, strict=True)]
        found = agree(merge([*reports, Moments([])]), [], [0], [])
        pooled = np.concatenate(parts)
        assert found.target_offset == pytest.approx(pooled.mean(), rel=1e-12)
        assert found.target_scale == pytest.approx(pooled.std(), rel=1e-12)

    def test_a_constant_target_has_scale_one(self) -> None:
        """So has a job without targets, at offset 0."""
        inputs = np.zeros((9, 1, 1), np.float32)
        constant = agree(collect(inputs, [0], [], [], np.full(9, 0.1)), [], [0], [])
        assert (constant.target_offset, constant.target_scale) == (0.1, 1.0)
        none = agree(collect(inputs, [0], [], []), [], [0], [])
        assert (none.target_offset, none.target_scale) == (0.0, 1.0)

    def test_a_constant_signal_has_scale_one_over_agents(self) -> None:
        """518.67 as float32 is exactly constant, however many agents say so."""
        reports = [collect(np.full((n, 1, 7), 518.67, np.float32), [0], [], []) for n in (3, 5, 11)]
        found = agree(merge(reports), [], [0], [])
        assert found.scale.tolist() == [[1.0]]
        assert found.mean.tolist() == [[float(np.float32(518.67))]]


class TestValidate:
    def test_an_honest_report_passes_over_the_wire(self) -> None:
        """Encoded, decoded and validated, nothing is lost."""
        told = collect(engine(3), [0, 1], [2, 3, 4], RESOLUTION, np.arange(40.0))
        back = msgspec.msgpack.decode(msgspec.msgpack.encode(told), type=Moments)
        validate(back, signals=5, regimes=3)
        assert back == told

    @pytest.mark.parametrize(
        ("told", "word"),
        [
            (Moments([cell((n,)) for n in range(257)]), "257 cells"),
            (Moments([cell((1,)), cell((1,))]), "twice"),
            (Moments([cell((1, 2))]), "regime"),
            (Moments([cell((1 << 40,))]), "regime"),
            (Moments([Cell((1,), 10, [1.0, 2.0], [1.0])]), "signals"),
            (Moments([Cell((1,), 10, [1.0], [])]), "signals"),
            (Moments([cell((1,), count=-5)]), "count"),
            (Moments([cell((1,), count=7)]), "count"),
            (Moments([cell((1,), count=1 << 60)]), "count"),
            (Moments([cell((1,), mean=float("nan"))]), "mean"),
            (Moments([cell((1,), mean=1e200)]), "mean"),
            (Moments([cell((1,), m2=-1.0)]), "deviation"),
            (Moments([cell((1,), m2=float("inf"))]), "deviation"),
            (Moments([cell((1,), m2=float("nan"))]), "deviation"),
            (Moments([], -1, 0.0, 0.0), "count"),
            (Moments([], 9, float("nan"), 0.0), "mean"),
            (Moments([], 0, 5.0, 0.0), "target"),
        ],
    )
    def test_what_no_honest_agent_sends_is_refused(self, told: Moments, word: str) -> None:
        """Each lie is named."""
        with pytest.raises(FrameError, match=word):
            validate(told, signals=1, regimes=1)

    def test_without_regimes_there_is_one_cell(self) -> None:
        """Two cells of a job without regime signals are refused."""
        with pytest.raises(FrameError, match="2 cells"):
            validate(Moments([cell(), cell((3,))]), signals=1, regimes=0)

    def test_decoding_is_bounded(self) -> None:
        """Too many cells, or too wide ones, do not even decode."""
        for told in (
            Moments([cell((n,)) for n in range(257)]),
            Moments([Cell((), 10, [0.0] * 257, [0.0] * 257)]),
        ):
            with pytest.raises(msgspec.ValidationError):
                msgspec.msgpack.decode(msgspec.msgpack.encode(told), type=Moments)

    @settings(max_examples=60)
    @given(
        st.lists(
            st.builds(
                Cell,
                st.tuples(st.integers(-(1 << 31), 1 << 31)),
                st.integers(8, 1 << 40),
                st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=1),
                st.lists(st.floats(0, 1e60), min_size=1, max_size=1),
            ),
            min_size=1,
            max_size=6,
        )
    )
    def test_whatever_is_valid_agrees_to_finite_numbers(self, cells: list[Cell]) -> None:
        """The worst that passes validation gives no NaN, infinity or zero scale."""
        reports = [Moments([one]) for one in cells]
        for report in reports:
            validate(report, signals=1, regimes=1)
        found = agree(merge(reports), [1.0], [0], [0])
        for values in (found.mean, found.scale, found.centroids):
            assert np.isfinite(values).all()
        assert (found.scale > 0).all()

    def test_reports_of_different_jobs_do_not_merge(self) -> None:
        """Different widths raise, they do not broadcast."""
        with pytest.raises(DataError, match="different jobs"):
            merge([Moments([cell((1,))]), Moments([cell((1, 2))])])

# SPDX-License-Identifier: Apache-2.0
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmill_agent.store.splits import Choice, SplitPolicy, StoredSplit, furthest_below, shares
from fedmill_agent.store.windows import WindowStore
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import JobError
from fedmill_shared.job import Evaluation
from fedmill_shared.signals.windows import Window, Windower

PERIOD = 10


class Memory:
    """Decisions in memory, so that hypothesis need not write files."""

    def __init__(self) -> None:
        self.splits: dict[tuple[str, str], StoredSplit] = {}
        self.origins: dict[str, int] = {}

    def decide(self, kind: str, name: str, choose: Choice) -> StoredSplit:
        """As the store does."""
        if (kind, name) not in self.splits:
            known = Counter(split for (k, _), split in self.splits.items() if k == kind)
            self.splits[kind, name] = choose(known)
        return self.splits[kind, name]

    def origin(self, run: str, start_ns: int) -> int:
        """As the store does."""
        return self.origins.setdefault(run, start_ns)


def cut(run: str, unit: str, samples: int, *, length: int, stride: int, start: int) -> list[Window]:
    """All windows of a run."""
    windower = Windower(length, stride, "edge")
    values = np.zeros((1, samples), np.float32)
    return windower.push(run, unit, start, PERIOD, values) + windower.end(run)


def policy(
    memory: Memory | WindowStore,
    by: Literal["unit", "run", "block"],
    length: int,
    validation: float = 0.2,
    test: float = 0.3,
) -> SplitPolicy:
    """A policy for windows of ``length`` samples."""
    evaluation = Evaluation(split=by, validation=validation, test=test)
    return SplitPolicy(memory, evaluation, window_ns=length * PERIOD, block_windows=3)


RUNS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(1, 90), st.integers(-500, 500)),
    min_size=1,
    max_size=6,
    unique_by=lambda run: run[:2],
)


class TestNoLeak:
    @settings(max_examples=80)
    @given(
        RUNS,
        st.sampled_from(["unit", "run", "block"]),
        st.tuples(st.integers(1, 7), st.integers(1, 9)),
        st.randoms(use_true_random=False),
    )
    def test_no_sample_is_in_two_splits(
        self,
        runs: list[tuple[int, int, int, int]],
        by: Literal["unit", "run", "block"],
        shape: tuple[int, int],
        order: Random,
    ) -> None:
        """Whatever the order, with a restart amid it: no sample, unit or run in two splits."""
        length, stride = shape
        windows = [
            window
            for unit, run, samples, start in runs
            for window in cut(
                f"run {unit}.{run}",
                f"unit {unit}",
                samples,
                length=length,
                stride=stride,
                start=start,
            )
        ]
        order.shuffle(windows)
        memory = Memory()
        samples_of: dict[tuple[str, int], set[str]] = {}
        units_of: dict[str, set[str]] = {}
        for number, window in enumerate(windows):
            if number in (0, len(windows) // 2):
                split_of = policy(memory, by, length).split_of
            split = split_of(window)
            if split is None:
                assert by == "block"
                continue
            for time in range(window.start_ns, window.end_ns + 1, PERIOD):
                samples_of.setdefault((window.run, time), set()).add(split)
            name = window.unit if by == "unit" else window.run
            units_of.setdefault(name, set()).add(split)
            assert split_of(window) == split
        assert all(len(splits) == 1 for splits in samples_of.values())
        assert by == "block" or all(len(splits) == 1 for splits in units_of.values())

    @pytest.mark.parametrize("stride", [1, 4, 7])
    def test_blocks_are_a_window_apart(self, stride: int) -> None:
        """Between windows of neighbouring blocks lies the time of at least one window."""
        length, found = 4, []
        split_of = policy(Memory(), "block", length).split_of
        for window in cut("run", "unit", 500, length=length, stride=stride, start=12345):
            split = split_of(window)
            if split is not None:
                found.append((window.start_ns, window.end_ns, split))
        gaps = [after[0] - before[1] for before, after in pairwise(found) if before[2] != after[2]]
        assert len(gaps) > 5
        assert min(gaps) > length * PERIOD


class TestShares:
    def test_arrival_order_is_literal(self) -> None:
        """70 : 10 : 20 over ten units, train first."""
        memory = Memory()
        split_of = policy(memory, "unit", 4, 0.1, 0.2).split_of
        given_ = [split_of(cut("r", f"u{n}", 4, length=4, stride=4, start=0)[0]) for n in range(10)]
        short = "".join(str(split)[:2] for split in given_)
        assert short == "trtrtetrtrvatrtrtetr"

    def test_the_very_first_trains(self) -> None:
        """Even where nearly everything is held out."""
        wanted = shares(Evaluation(validation=0.9, test=0.05))
        assert furthest_below({}, wanted) == "train"
        assert furthest_below({"train": 1}, wanted) == "validation"

    @given(st.floats(0, 0.9), st.floats(0, 0.9), st.integers(1, 300))
    def test_shares_are_kept(self, validation: float, test: float, units: int) -> None:
        """After any number of units each split is within one of its share, and zero stays zero."""
        if validation + test > 0.999:
            return
        wanted = shares(Evaluation(validation=validation, test=test))
        counts: dict[StoredSplit, int] = {"train": 0, "validation": 0, "test": 0}
        for _ in range(units):
            counts[furthest_below(counts, wanted)] += 1
        for split, share in wanted.items():
            assert abs(counts[split] - share * units) < 1.0 + 1e-6 or units < 3
            assert share > 0 or counts[split] == 0

    def test_blocks_of_a_run_follow_the_same_sequence(self) -> None:
        """A run's first block trains; half of the later ones are held out as the job says."""
        split_of = policy(Memory(), "block", 1, 0.2, 0.3).split_of
        blocks = [
            split_of(cut("r", "u", 1, length=1, stride=1, start=n * 4 * PERIOD)[0])
            for n in range(20)
        ]
        assert blocks[0] == "train"
        assert Counter(blocks) == {"train": 10, "validation": 4, "test": 6}

    def test_nothing_left_to_train_is_refused(self) -> None:
        """Shares that sum to one are the job's fault."""
        with pytest.raises(JobError, match="nothing to train on"):
            policy(Memory(), "run", 4, 0.5, 0.5)


class TestInTheStore:
    def open(self, folder: Path) -> WindowStore:
        """The store in ``folder``."""
        return WindowStore(
            folder / "s", clock=ManualClock(), max_bytes=1 << 20, max_age_seconds=1e9
        )

    @pytest.mark.parametrize("by", ["unit", "run", "block"])
    def test_decisions_survive_a_restart(
        self, tmp_path: Path, by: Literal["unit", "run", "block"]
    ) -> None:
        """A new process decides as the old one did, and as memory would."""
        windows = [
            window
            for n in range(12)
            for window in cut(f"r{n}", f"u{n // 2}", 40, length=4, stride=3, start=1000 * n)
        ]
        wanted = self.decide(Memory(), by, windows)
        with self.open(tmp_path) as store:
            first = self.decide(store, by, windows[:70])
        with self.open(tmp_path) as store:
            assert self.decide(store, by, windows) == wanted
        assert first == wanted[:70]

    def decide(
        self, memory: Memory | WindowStore, by: Literal["unit", "run", "block"], w: Sequence[Window]
    ) -> list[StoredSplit | None]:
        """Splits of all windows."""
        split_of = policy(memory, by, 4).split_of
        return [split_of(window) for window in w]

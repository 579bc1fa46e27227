# SPDX-License-Identifier: Apache-2.0
"""Labels that come late, twice, corrected, withdrawn, in any order: the joined set is the same."""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmill_agent.labels.record import Entry, Label, LabelRecord, settled
from fedmill_agent.sources.base import LabelInterval
from fedmill_agent.store.joining import Joining
from fedmill_agent.store.reader import WindowReader
from fedmill_agent.store.windows import WindowStore
from fedmill_shared.clock import ManualClock
from fedmill_shared.signals.windows import Window

SECOND = 10**9
RUNS = (("press", "press"), ("press/a", "press"), ("press/b", "press"), ("b", "oven"))
"""Runs and their machines."""
WINDOWS = [
    Window(run, unit, n * SECOND, (n + 2) * SECOND, np.full((1, 4), 7 * n + k, np.float32), 1.0, n)
    for k, (run, unit) in enumerate(RUNS)
    for n in range(0, 8, 2)
]
NAMES = st.sampled_from(["", "x", "y"])
TIMES = st.integers(0, 10)


@st.composite
def records(draw: st.DrawFn) -> LabelRecord:
    """A record about one of few things, of one of few revisions."""
    unit, part = draw(
        st.sampled_from([("press", ""), ("press", "a"), ("", "b"), ("oven", ""), ("gone", "")])
    )
    first, last = sorted((draw(TIMES), draw(TIMES)))
    whole = bool(part) and draw(st.booleans())
    truth: dict[str, Any] = {"class_": draw(st.sampled_from(["good", "worn"]))}
    if draw(st.booleans()):
        truth = {"value": float(draw(st.integers(0, 3)))}
        if first < last and not whole and draw(st.booleans()):
            truth["start_value"] = 9.0
    times = {} if whole else {"start": first, "end": last}
    label = Label(
        id=draw(NAMES),
        unit=unit,
        part=part,
        job=draw(st.sampled_from(["", "job"])),
        revision=draw(st.integers(0, 2)),
        deleted=draw(st.sampled_from([False, False, True])),
        made=draw(st.sampled_from([None, 3, 20])),
        **times,
        **truth,
    )
    return settled(label, "a test")


JOININGS = st.builds(
    Joining,
    tolerance_ns=st.sampled_from([0, SECOND, 3 * SECOND]),
    conflict=st.sampled_from(["newest", "drop"]),
)
CLOCK = ManualClock()


def open_store(path: Path, joining: Joining | None = None) -> WindowStore:
    """The store at ``path``."""
    return WindowStore(path, clock=CLOCK, max_bytes=1 << 26, max_age_seconds=1e9, joining=joining)


def entry(record: LabelRecord) -> Entry:
    """What came just now."""
    return Entry(record, CLOCK.now_ns())


def put(store: WindowStore, *found: LabelRecord, position: int = 0) -> None:
    """Hand labels over, none of them refused."""
    store.add_truths([entry(each) for each in found], [False] * len(found), position=position)


def label(unit: str = "press", text: str = "good", **fields: Any) -> LabelRecord:
    """A label of a class."""
    return settled(Label(unit=unit, class_=text, **fields), "a test")


Found = dict[tuple[str, int], tuple[str, float]]


def joined(store: WindowReader) -> Found:
    """Run and end (s) of every labelled window -> class and number; -1 where there is none."""
    data = store.load("train")
    assert [n for n in store.labelled().values() if n] in ([], [len(data)])
    numbers = [-1.0 if math.isnan(n) else n for n in data.numbers]
    keys = zip(data.runs, (data.end_ns // SECOND).tolist(), strict=True)
    return dict(zip(keys, zip(data.texts, numbers, strict=True), strict=True))


def once_at_the_end(given: Sequence[LabelRecord], joining: Joining) -> Found:
    """The definition, window by window."""
    newest: dict[tuple[str, str], LabelRecord] = {}
    for record in given:
        known = newest.setdefault((record.job, record.id), record)
        if record.rank > known.rank:
            newest[record.job, record.id] = record
    held = [each for each in newest.values() if not each.deleted]
    found: Found = {}
    for window in WINDOWS:
        text = _best([each for each in held if each.text], window, joining)
        number = _best([each for each in held if not each.text], window, joining)
        if text is not None or number is not None:
            says = -1.0 if number is None else _number(number, window)
            found[window.run, window.end_ns // SECOND] = (text.text if text else "", says)
    return found


def _best(held: list[LabelRecord], window: Window, joining: Joining) -> LabelRecord | None:
    fitting: dict[int, list[LabelRecord]] = {}
    for record in held:
        runs = {record.piece, f"{window.unit}/{record.piece}"}
        ours = record.unit in ("", window.unit) and (not record.piece or window.run in runs)
        excess = _excess(record, window)
        if ours and excess <= joining.tolerance_ns:
            fitting.setdefault(excess, []).append(record)
    if not fitting:
        return None
    equal = fitting[min(fitting)]
    said = {each.text or _number(each, window) for each in equal}
    if len(said) > 1 and joining.conflict == "drop":
        return None
    return max(equal, key=lambda r: (_moment(r), r.rank, r.job, r.id))


def _moment(record: LabelRecord) -> int:
    known = [each for each in (record.made_ns, record.end_ns) if each is not None]
    return known[0] if known else 0


def _excess(record: LabelRecord, window: Window) -> int:
    if record.start_ns is None or record.end_ns is None:
        return 0
    first = window.start_ns if record.text else window.end_ns
    return max(record.start_ns - first, window.end_ns - record.end_ns, 0)


def _number(record: LabelRecord, window: Window) -> float:
    if record.start_ns is None or record.end_ns is None or record.start_ns == record.end_ns:
        return record.end_value
    share = (window.end_ns - record.start_ns) / (record.end_ns - record.start_ns)
    share = min(max(share, 0.0), 1.0)
    return record.start_value * (1 - share) + record.end_value * share


class TestInterleavings:
    @settings(max_examples=120)
    @given(data=st.data(), given_=st.lists(records(), min_size=1, max_size=12), joining=JOININGS)
    def test_any_of_them_gives_the_same_joined_set(
        self, data: st.DataObject, given_: list[LabelRecord], joining: Joining
    ) -> None:
        """Late, corrected, withdrawn and duplicate labels: as joining once at the end.

        In batches of any size, between windows in any order, and over restarts.
        """
        repeated = data.draw(st.lists(st.sampled_from(given_), max_size=8))
        events: list[LabelRecord | Window | None] = data.draw(
            st.permutations([*given_, *repeated, *WINDOWS, None, None])
        )
        cuts = data.draw(st.lists(st.integers(0, len(events)), max_size=6))
        edges = sorted({0, *cuts, len(events)})
        with TemporaryDirectory() as folder:
            path = Path(folder, "w.sqlite")
            store = open_store(path, joining)
            for first, last in pairwise(edges):
                batch = events[first:last]
                store.add([each for each in batch if isinstance(each, Window)], "train")
                put(store, *(each for each in batch if isinstance(each, LabelRecord)))
                if None in batch:
                    store.close()
                    store = open_store(path, joining)
            found = joined(store)
            store.close()
        assert found.keys() == once_at_the_end(given_, joining).keys()
        for key, (text, number) in once_at_the_end(given_, joining).items():
            assert found[key][0] == text
            assert found[key][1] == pytest.approx(number)

    @given(given_=st.lists(records(), min_size=2, max_size=6), data=st.data())
    @settings(max_examples=50)
    def test_bit_for_bit(self, given_: list[LabelRecord], data: st.DataObject) -> None:
        """Two orders, one result, without any tolerance of the test's own."""
        other = data.draw(st.permutations(given_))
        results = []
        with TemporaryDirectory() as folder:
            for name, order in (("a", given_), ("b", other)):
                with open_store(Path(folder, name)) as store:
                    store.add(WINDOWS, "train")
                    put(store, *order)
                    results.append(joined(store))
        assert results[0] == results[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the stores are."""
    return tmp_path


def classes(store: WindowReader, run: str) -> dict[int, str]:
    """End (s) of each labelled window of a run -> class."""
    return {end: text for (name, end), (text, _) in joined(store).items() if name == run}


class TestScope:
    def test_a_machine_has_all_its_parts(self, folder: Path) -> None:
        """An interval of the machine goes to whatever was in it, and to no other machine."""
        with open_store(folder / "w") as store:
            store.add(WINDOWS, "train")
            put(store, label(start=0, end=4))
            assert {run for run, _ in joined(store)} == {"press", "press/a", "press/b"}

    def test_a_part_has_no_need_of_times(self, folder: Path) -> None:
        """All its windows, whichever machine it was in, unless one is named."""
        with open_store(folder / "w") as store:
            store.add(WINDOWS, "train")
            put(store, label(unit="", part="b"))
            assert {run for run, _ in joined(store)} == {"press/b", "b"}
        with open_store(folder / "v") as store:
            store.add(WINDOWS, "train")
            put(store, label(unit="oven", batch="b"))
            assert {run for run, _ in joined(store)} == {"b"}

    def test_a_machine_that_is_called_like_a_part_is_none(self, folder: Path) -> None:
        """``press/a`` is part a of the press; a machine named ``a`` has nothing to do with it."""
        with open_store(folder / "w") as store:
            store.add(WINDOWS, "train")
            put(store, label(unit="a", start=0, end=9))
            assert joined(store) == {}


class TestTolerance:
    def test_it_lets_windows_reach_beyond(self, folder: Path) -> None:
        """Windows last 2 s and begin every 2 s; the label is from 1.5 to 4.5 s."""
        reach = {0.0: [4], 0.5: [4], 1.5: [2, 4, 6], 3.5: [2, 4, 6, 8]}
        for tolerance, ends in reach.items():
            joining = Joining(tolerance_ns=round(tolerance * SECOND))
            with open_store(folder / str(tolerance), joining) as store:
                store.add(WINDOWS, "train")
                put(store, label(start=1.5, end=4.5))
                assert list(classes(store, "press")) == ends

    def test_the_label_that_fits_best_holds(self, folder: Path) -> None:
        """Neighbours overlap by their tolerance; that is no contradiction."""
        with open_store(folder / "w", Joining(tolerance_ns=2 * SECOND, conflict="drop")) as store:
            store.add(WINDOWS, "train")
            put(store, label(start=4, end=8, text="worn", made=1), label(start=0, end=4, made=2))
            assert classes(store, "press") == {2: "good", 4: "good", 6: "worn", 8: "worn"}

    def test_the_measurement_that_is_nearest(self, folder: Path) -> None:
        """Two values of a laboratory, at 3 and 7 s."""
        with open_store(folder / "w", Joining(tolerance_ns=2 * SECOND)) as store:
            store.add(WINDOWS, "train")
            for start, value in ((3, 30.0), (7, 70.0)):
                put(store, settled(Label(unit="oven", start=start, value=value), "a test"))
            found = {end: number for (_, end), (_, number) in joined(store).items()}
            assert found == {2: 30.0, 4: 30.0, 6: 70.0, 8: 70.0}


class TestConflict:
    @pytest.mark.parametrize(("conflict", "told"), [("newest", "worn"), ("drop", "")])
    def test_two_people_disagree(self, folder: Path, conflict: Any, told: str) -> None:
        """The newest judgement holds, or nothing, whichever came first."""
        both = [
            label(id="ann", start=0, end=2, made=10),
            label(id="bob", text="worn", start=0, end=2, made=20),
        ]
        for name, order in (("a", both), ("b", both[::-1])):
            with open_store(folder / name, Joining(conflict=conflict)) as store:
                store.add(WINDOWS, "train")
                put(store, *order)
                assert classes(store, "press") == ({2: told} if told else {})
                assert store.label_report().conflicting == 3

    def test_agreement_is_none(self, folder: Path) -> None:
        """Two labels that say the same."""
        with open_store(folder / "w", Joining(conflict="drop")) as store:
            store.add(WINDOWS, "train")
            put(store, label(id="ann", start=0, end=2), label(id="bob", start=0, end=2))
            assert classes(store, "press") == {2: "good"}
            assert store.label_report().conflicting == 0

    def test_a_person_corrects_a_recording(self, folder: Path) -> None:
        """Labels that came by themselves go before those of a recording, whichever came first."""
        for first in (True, False):
            with open_store(folder / str(first), Joining(conflict="drop")) as store:
                store.add(WINDOWS, "train")
                if first:
                    put(store, label(start=0, end=2, text="worn"))
                store.add_labels([LabelInterval("press", 0, 8 * SECOND, "good")])
                put(store, label(start=0, end=2, text="worn"))
                assert classes(store, "press") == {2: "worn", 4: "good", 6: "good", 8: "good"}


class TestKept:
    def test_what_is_withdrawn_stays_withdrawn(self, folder: Path) -> None:
        """A late copy changes nothing; a larger revision brings the label back."""
        with open_store(folder / "w") as store:
            store.add(WINDOWS, "train")
            put(store, label(id="x", start=0, end=2))
            put(store, settled(Label(id="x", deleted=True), "a test"))
            assert classes(store, "press") == {}
            put(store, label(id="x", start=0, end=2))
            assert classes(store, "press") == {}
            put(store, label(id="x", start=0, end=2, revision=1))
            assert classes(store, "press") == {2: "good"}

    def test_the_position_is_kept_with_the_labels(self, folder: Path) -> None:
        """Both or neither; nothing new needs no label."""
        with open_store(folder / "w") as store:
            assert store.labels_position == 0
            put(store, label(start=0, end=2), position=17)
        with open_store(folder / "w") as store:
            assert store.labels_position == 17
            put(store, position=18)
            assert store.labels_position == 18

    def test_readers_are_told_of_changes_only(self, folder: Path) -> None:
        """Trainers load again after a correction, and not after a copy."""
        with open_store(folder / "w") as store:
            store.add(WINDOWS, "train")
            put(store, label(start=0, end=2, made=1))
            before = store.generation("train")
            put(store, label(start=0, end=2, made=1))
            assert store.generation("train") == before
            put(store, label(start=0, end=2, text="worn", made=2))
            assert store.generation("train") > before

    def test_another_way_of_joining_is_something_new(self, folder: Path) -> None:
        """Readers, in other processes, join as the job says now."""
        with open_store(folder / "w") as store:
            store.add(WINDOWS, "train")
            put(store, label(start=0.5, end=2))
            assert classes(store, "press") == {}
            before = store.generation("train")
        with (
            open_store(folder / "w", Joining(tolerance_ns=SECOND)) as store,
            WindowStore.reader(folder / "w") as reader,
        ):
            assert reader.generation("train") > before
            assert classes(reader, "press") == {2: "good"}

    def test_they_are_bounded(self, folder: Path) -> None:
        """An eighth of the room; the first ones go."""
        with WindowStore(
            folder / "w", clock=CLOCK, max_bytes=1_000_000, max_age_seconds=1e9
        ) as store:
            for n in range(0, 1200, 100):
                put(store, *(label(start=k, end=k + 1) for k in range(n, n + 100)))
            assert 488 <= store.label_report().labels <= 488 + 256 + 100

    def test_old_ones_of_unknown_machines_go(self, folder: Path) -> None:
        """Those of machines and parts that have windows stay."""
        clock = ManualClock()
        with WindowStore(folder / "w", clock=clock, max_bytes=1 << 26, max_age_seconds=10) as store:
            put(store, label(unit="gone", start=0, end=2), label(unit="", part="gone"))
            put(store, label(start=0, end=2), label(unit="", part="a"))
            clock.advance(20.0)
            store.add(WINDOWS, "train")
            many = [label(unit="oven", start=k, end=k + 1) for k in range(300)]
            store.add_truths(
                [Entry(each, clock.now_ns()) for each in many], [False] * 300, position=0
            )
            assert store.label_report().labels == 302
            assert {run for run, _ in joined(store)} == {"press", "press/a", "press/b"}

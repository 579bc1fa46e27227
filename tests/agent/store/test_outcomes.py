# SPDX-License-Identifier: Apache-2.0
"""Predictions and alarms on disk, and how far they have been published."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmill_agent.store.alarms import LONGEST_RECORD
from fedmill_agent.store.bounds import Rules
from fedmill_agent.store.cursors import Published
from fedmill_agent.store.predictions import Prediction
from fedmill_agent.store.ring import Discard
from fedmill_agent.store.windows import WindowStore
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import DataError, StoreError

DAY = 86400.0
OUTPUTS = np.zeros(64, np.float32)


def open_store(
    path: Path, max_bytes: int = 1 << 22, clock: ManualClock | None = None, **rules: object
) -> WindowStore:
    """A store with these rules."""
    return WindowStore(
        path,
        clock=clock or ManualClock(),
        max_bytes=max_bytes,
        max_age_seconds=1e9,
        rules=Rules(**rules),
    )


def predictions(first: int, last: int, scored_ns: int = 0) -> list[Prediction]:
    """Numbers ``first`` up to ``last``."""
    return [Prediction("r", n, "v", OUTPUTS, scored_ns) for n in range(first, last)]


def standing(store: WindowStore, table: Published = "predictions") -> tuple[int | None, int, int]:
    """The place, how many rows are behind it, and how many are lost."""
    place, lost = store.publication(table)
    read = store.predictions_after if table == "predictions" else store.alarms_after
    return place, 0 if place is None else len(read(place, 10_000)), lost


class TestPrediction:
    @given(
        said=st.builds(
            Prediction,
            run=st.just("run"),
            end_ns=st.just(7),
            version=st.just("v"),
            outputs=st.just(OUTPUTS[:2]),
            scored_ns=st.just(9),
            unit=st.text(st.characters(exclude_categories=("Cs",)), max_size=20),
            start_ns=st.integers(-(1 << 60), 1 << 60),
            good_share=st.floats(0, 1),
            number=st.integers(0, 1 << 40),
            confidence=st.none() | st.floats(0, 1),
            low=st.none() | st.floats(-1e9, 1e9),
            high=st.none() | st.floats(-1e9, 1e9),
            plausible=st.none() | st.lists(st.text(max_size=9), max_size=4).map(tuple),
        )
    )
    @settings(max_examples=40)
    def test_comes_back_as_it_was(
        self, tmp_path_factory: pytest.TempPathFactory, said: Prediction
    ) -> None:
        """Every field; an empty set of plausible classes is not the same as none known."""
        with open_store(tmp_path_factory.mktemp("s") / "s") as store:
            store.add_predictions([said])
            (found,) = store.predictions()
        names = (name for name in Prediction.__slots__ if name not in ("outputs", "id"))
        for name in names:
            assert getattr(found, name) == getattr(said, name)
        assert found.outputs.tolist() == [0, 0]
        assert found.id == 1

    def test_scored_again_it_keeps_its_place(self, tmp_path: Path) -> None:
        """So nobody is told twice; what is said of it is the newest."""
        with open_store(tmp_path / "s") as store:
            store.add_predictions(predictions(0, 2))
            store.add_predictions([Prediction("r", 0, "v", OUTPUTS, 5, confidence=0.5, number=3)])
            first, second = store.predictions_after(0)
            assert (first.id, first.end_ns, first.scored_ns) == (1, 0, 5)
            assert (first.confidence, first.number, second.id) == (0.5, 3, 2)

    @pytest.mark.parametrize("damaged", ['["good"', '["good",1]', '"good"', "\ufffd", ""])
    def test_classes_that_cannot_be_read(self, tmp_path: Path, damaged: str) -> None:
        """A wrong bit in them costs them alone: nobody fails over it, at each start again."""
        with open_store(tmp_path / "s") as store:
            sure = Prediction("r", 0, "v", OUTPUTS, 5, confidence=0.5, plausible=("good", "worn"))
            store.add_predictions([sure, *predictions(1, 3)])
            change = "UPDATE predictions SET plausible = ? WHERE id = 1"
            store._write(lambda database: database.execute(change, (damaged,)))
            first, *others = store.predictions_after(0)
            assert (first.confidence, first.plausible) == (0.5, None)
            assert [each.end_ns for each in others] == [1, 2]


class TestAlarms:
    def test_every_turn_is_a_row(self, tmp_path: Path) -> None:
        """In their order, from any of them on; the ids are those that were told."""
        with open_store(tmp_path / "s") as store:
            ids = [
                store.add_alarm("hot", state, 10 * n, f'{{"n":{n}}}')
                for n, state in enumerate(("raised", "acknowledged", "cleared"))
            ]
            assert ids == [1, 2, 3]
            assert [row.state for row in store.alarms(2)] == ["acknowledged", "cleared"]
            (last,) = store.alarms_after(2)
            assert (last.id, last.name, last.at_ns, last.record) == (3, "hot", 20, '{"n":2}')

    def test_the_newest_stay(self, tmp_path: Path) -> None:
        """They take an eighth of the store at most; ids are never given twice."""
        with open_store(tmp_path / "s", 1 << 20) as store:
            most = (1 << 17) // LONGEST_RECORD
            for n in range(most + 5):
                store.add_alarm("hot", "raised", n, "{}")
            assert [row.id for row in store.alarms()] == list(range(6, most + 6))

    def test_one_that_says_too_much_is_refused(self, tmp_path: Path) -> None:
        """Nothing of it is stored."""
        with open_store(tmp_path / "s") as store:
            with pytest.raises(DataError, match=r"alarm hot: a record of 4097 bytes"):
                store.add_alarm("hot", "raised", 0, "x" * (LONGEST_RECORD + 1))
            assert store.alarms() == []


class TestPublication:
    def test_it_begins_behind_what_is_there(self, tmp_path: Path) -> None:
        """What was made before nobody asked for; the place survives, until it is given up."""
        with open_store(tmp_path / "s") as store:
            store.add_predictions(predictions(0, 3))
            assert standing(store) == (None, 0, 0)
            store.begin_publishing("predictions")
            store.begin_publishing("alarms")
            store.add_predictions(predictions(3, 5))
            assert standing(store) == (3, 2, 0)
            store.published("predictions", 4)
        with open_store(tmp_path / "s") as store:
            store.begin_publishing("predictions")
            assert standing(store) == (4, 1, 0)
            assert [p.end_ns for p in store.predictions_after(4)] == [4]
            assert standing(store, "alarms") == (0, 0, 0)
            store.end_publishing("predictions")
            assert standing(store) == (None, 0, 0)

    def test_everything_if_asked_for(self, tmp_path: Path) -> None:
        """As after a damaged file was set aside: all that is in the fresh one is untold."""
        with open_store(tmp_path / "s") as store:
            store.add_predictions(predictions(0, 3))
            store.begin_publishing("predictions", everything=True)
            assert standing(store) == (0, 3, 0)

    def test_it_never_goes_back(self, tmp_path: Path) -> None:
        """An older place changes nothing; what nobody will hear of is counted."""
        with open_store(tmp_path / "s") as store:
            store.begin_publishing("predictions")
            store.add_predictions(predictions(0, 9))
            store.published("predictions", 6)
            store.published("predictions", 4, lost=2)
            assert standing(store) == (6, 3, 2)

    def test_it_never_goes_beyond_what_is_there(self, tmp_path: Path) -> None:
        """A row that was told and given up meanwhile: its number is another's next."""
        with open_store(tmp_path / "s") as store:
            store.begin_publishing("predictions")
            store.add_predictions(predictions(0, 4))
            store.published("predictions", 9)
            store.add_predictions(predictions(4, 6))
            assert standing(store) == (4, 2, 0)

    def test_the_bounds_of_the_store_hold(self, tmp_path: Path) -> None:
        """What is given up before anybody heard of it is counted, and nothing else."""
        with open_store(tmp_path / "s", 1 << 18) as store:
            store.begin_publishing("predictions")
            store.add_predictions(predictions(0, 50))
            store.published("predictions", 10)
            store.add_predictions(predictions(50, 100))  # 64 have room
            assert standing(store) == (10, 64, 26)

    def test_age_counts_too(self, tmp_path: Path) -> None:
        """Predictions that became too old while nobody listened."""
        clock = ManualClock()
        age = {"predictions_max_age_seconds": DAY}
        with open_store(tmp_path / "s", clock=clock, **age) as store:
            store.begin_publishing("predictions")
            store.add_predictions(predictions(0, 5, clock.now_ns()))
            store.published("predictions", 2)
            clock.advance(DAY + 1)
            store.add_predictions(predictions(5, 6, clock.now_ns()))
            assert standing(store) == (2, 1, 3)

    def test_alarms_count_too(self, tmp_path: Path) -> None:
        """Turns that were pushed out untold."""
        with open_store(tmp_path / "s", 1 << 20) as store:
            store.begin_publishing("alarms")
            for n in range(40):
                store.add_alarm("hot", "raised", n, "{}")
            assert standing(store, "alarms") == (0, 32, 8)

    @pytest.mark.parametrize("discard", ["oldest", "thin", "newest"])
    @given(steps=st.lists(st.tuples(st.integers(1, 70), st.integers(0, 70)), max_size=8))
    @settings(max_examples=15)
    def test_every_row_is_told_or_counted(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        discard: Discard,
        steps: list[tuple[int, int]],
    ) -> None:
        """Whatever the store gives up, and however far the others are: no row is passed over."""
        made, told = 0, set[int]()
        with open_store(tmp_path_factory.mktemp("s") / "s", 1 << 18, discard=discard) as store:
            store.begin_publishing("predictions")
            for new, publish in steps:
                store.add_predictions(predictions(made, made + new))
                made += new
                place, _, _ = standing(store)
                assert place is not None
                for each in store.predictions_after(place, publish):
                    told.add(each.end_ns)
                    store.published("predictions", each.id)
            _, waiting, lost = standing(store)
            assert len(told) + waiting + lost == made

    def test_a_fresh_file_has_no_place(self, tmp_path: Path) -> None:
        """It was set aside with the damaged one."""
        path = tmp_path / "s"
        with open_store(path) as store:
            store.begin_publishing("predictions")
            store.add_predictions(predictions(0, 9))
        data = path.read_bytes()
        path.write_bytes(data[:100] + b"\xff" * (len(data) - 100))
        with open_store(path) as store:
            assert store.set_aside is not None
            assert standing(store) == (None, 0, 0)

    def test_a_closed_store_says_so(self, tmp_path: Path) -> None:
        """In the words of every other method."""
        store = open_store(tmp_path / "s")
        store.close()
        for call in (
            lambda: store.published("predictions", 1),
            lambda: store.add_alarm("hot", "raised", 0, "{}"),
            lambda: store.publication("alarms"),
        ):
            with pytest.raises(StoreError, match="closed"):
                call()

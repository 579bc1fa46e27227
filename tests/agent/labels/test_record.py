# SPDX-License-Identifier: Apache-2.0
"""What a label says, and which of several records of it holds."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_agent.labels.record import Label, LabelRecord, settled
from fedmill_shared.errors import DataError

SECOND = 10**9


def record(**fields: Any) -> LabelRecord:
    """A label of the press, a class from 1 to 2 s unless told otherwise."""
    base: dict[str, Any] = {"unit": "press", "start": 1, "end": 2}
    if not {"value", "deleted"} & {*fields}:
        base["class_"] = "good"
    return settled(Label(**(base | fields)), "a test")


class TestSettled:
    def test_times_are_nanoseconds(self) -> None:
        """ISO 8601, with or without a zone, and unix seconds."""
        found = record(start="2024-01-31T12:00:00+01:00", end=1706702400.5, made="2024-02-01")
        assert (found.start_ns, found.end_ns) == (
            1706698800 * SECOND,
            1706702400 * SECOND + 5 * 10**8,
        )
        assert found.made_ns == 1706745600 * SECOND

    def test_one_time_is_a_moment(self) -> None:
        """A sample was taken then."""
        assert record(end=None).end_ns == SECOND
        assert record(start=None).start_ns == 2 * SECOND

    def test_a_number_stays_or_runs(self) -> None:
        """From start_value to value, or value all the time."""
        assert (record(value=3.0).start_value, record(value=3.0).end_value) == (3.0, 3.0)
        assert record(value=3.0, start_value=9.0).start_value == 9.0

    def test_numbers_that_no_model_can_take(self) -> None:
        """One beyond 32 bits would be infinite to all that learn from it."""
        assert record(value=3.4e38).end_value == 3.4e38
        for fields in ({"value": 3.5e38}, {"value": 1.0, "start_value": -1e39}):
            with pytest.raises(DataError, match="finite number that 32 bits hold"):
                record(**fields)

    def test_part_and_batch_are_two_words_for_one_thing(self) -> None:
        """Neither needs a time."""
        part = record(part="7", start=None, end=None)
        assert part.piece == record(batch=" 7 ", start=None, end=None).piece == "7"
        assert part.start_ns is part.end_ns is None

    def test_identity_is_what_it_is_about(self) -> None:
        """Not what it says, nor when, nor for which job: there it is another label anyway."""
        same = [record(), record(class_="worn"), record(value=1.0), record(made=5, revision=3)]
        assert len({each.id for each in [*same, record(deleted=True), record(job="j")]}) == 1
        other = [record(end=3), record(unit="oven"), record(part="a"), record(id="mine")]
        assert len({each.id for each in [*same, *other]}) == 5

    @pytest.mark.parametrize(
        ("fields", "told"),
        [
            ({"unit": ""}, "names no unit, part or batch .add the machine"),
            ({"start": None, "end": None}, "has no `start`, and names no part"),
            ({"start": 3}, "`end` 2 lies before `start` 3"),
            ({"start": "monday"}, "`start` is 'monday', which is no time .write ISO 8601"),
            ({"start": 1706698800000}, "`start` is '1706698800000', which is no time"),
            ({"start": -3e9, "end": 3e9}, "more than 100 years"),
            ({"made": "soon"}, "`made` is 'soon'"),
            ({"class_": " "}, "neither class nor value"),
            ({"class_": "good", "value": 1.0}, "class 'good' and value 1"),
            ({"value": float("inf")}, "the value inf"),
            ({"value": 1.0, "start_value": float("nan")}, "the value nan"),
            ({"start_value": 1.0}, "start_value 1, and no value"),
            (
                {"value": 1.0, "start_value": 2.0, "end": None},
                "start_value 2, and no value at a later",
            ),
            ({"part": "a", "batch": "b"}, "a part and a batch"),
        ],
    )
    def test_what_says_nothing_is_refused(self, fields: dict[str, Any], told: str) -> None:
        """Naming where it is from, the field, its value, and what to do."""
        with pytest.raises(DataError, match=f"^a test: the label .*{told}"):
            record(**fields)

    def test_a_deletion_needs_only_an_identity(self) -> None:
        """By id, or by what it is about."""
        assert settled(Label(id="x", deleted=True), "a test").id == "x"
        with pytest.raises(DataError, match="names no unit"):
            settled(Label(deleted=True), "a test")


class TestRank:
    @pytest.mark.parametrize(
        ("older", "newer"),
        [
            ({"revision": 1, "made": 9}, {"revision": 2, "made": 1}),
            ({"made": 9, "revision": 1}, {"deleted": True, "revision": 1}),
            ({"deleted": True, "revision": 1}, {"revision": 2}),
            ({"made": 1}, {"made": 2}),
            ({}, {"made": -5}),
            ({"revision": 255}, {"revision": 256}),
        ],
    )
    def test_order(self, older: dict[str, Any], newer: dict[str, Any]) -> None:
        """Revision, then withdrawal, then when the truth was determined."""
        assert record(**older).rank < record(**newer).rank

    @given(st.sampled_from(["good", "worn", "torn"]), st.sampled_from(["good", "worn", "torn"]))
    def test_ties_are_settled_by_what_they_say(self, first: str, second: str) -> None:
        """A total order: equal ranks are equal records, in every process of every machine."""
        a, b = record(class_=first), record(class_=second)
        assert (a.rank == b.rank) == (a == b)
        again = msgspec.json.decode(msgspec.json.encode(a), type=LabelRecord)
        assert again.rank == a.rank

    def test_it_never_changes(self) -> None:
        """Files of older agents hold ranks: they must compare with new ones."""
        assert (
            record().rank.hex()
            == "0000000000000000000000000000000000baa107e0e94a8cd9fab85911faa366ba"
        )


class TestExactTimes:
    @given(st.integers(-(8 * 10**18), 8 * 10**18))
    def test_seconds_with_nine_digits(self, time_ns: int) -> None:
        """As text, every nanosecond; edges of windows are exact, too."""
        sign, whole = "-" if time_ns < 0 else "", abs(time_ns)
        text = f"{sign}{whole // 10**9}.{whole % 10**9:09d}"
        assert record(start=text, end=None).start_ns == time_ns

    @pytest.mark.parametrize("start", [1704067200.1, 1704067200.3, "1704067200.7", 1.7e9])
    def test_a_number_means_its_digits(self, start: float | str) -> None:
        """Not the binary fraction next to them."""
        expected = round(Decimal(str(start)) * SECOND)
        assert record(start=start, end=None).start_ns == expected

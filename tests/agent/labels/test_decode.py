# SPDX-License-Identifier: Apache-2.0
"""Labels as others write them: what can be used is, the rest is told."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_agent.labels import decode
from fedmill_agent.labels.cells import LabelTable
from fedmill_agent.labels.decode import (
    LARGEST,
    MOST_FAULTS,
    MOST_LABELS,
    MOST_WRONG,
    Decoded,
    Shape,
    from_json,
    label_of,
)
from fedmill_agent.labels.record import Label, LabelRecord, settled
from fedmill_agent.sources.csv.cells import Dialect
from fedmill_shared.errors import DataError

GOOD = {"unit": "press", "start": 1, "end": 2, "class": "good"}


def encoded(*rows: Any) -> bytes:
    """A list as JSON."""
    return json.dumps(rows).encode()


def faults(data: bytes, shape: Shape | None = None) -> list[str]:
    """What is told of a text."""
    return [str(fault) for fault in from_json(data, "here", shape or Shape()).faults]


class TestJson:
    def test_one_object_a_list_or_lines(self) -> None:
        """All of them are the same labels."""
        other = GOOD | {"unit": "oven"}
        [one] = from_json(json.dumps(GOOD).encode(), "here").records
        both = from_json(encoded(GOOD, other), "here")
        lines = from_json(f"{json.dumps(GOOD)}\n\n{json.dumps(other)}\r\n".encode(), "here")
        assert both == lines
        assert both.records[0] == one
        assert (one.unit, one.text, both.records[1].unit) == ("press", "good", "oven")

    def test_endless_nonsense(self) -> None:
        """All of it is counted, and little of it kept; what comes after much of it is not read."""
        found = from_json(b"[" + b"0," * 20_000 + json.dumps(GOOD).encode() + b"]", "here")
        assert (len(found.records), found.wrong, len(found.faults)) == (1, 20_000, MOST_FAULTS)
        lines = json.dumps(GOOD).encode() + b"\n" + b"a\n\n" * MOST_WRONG + b"{}\n" * 5
        found = from_json(lines, "here")
        assert (len(found.records), found.wrong) == (1, MOST_WRONG + 1)
        assert len(found.faults) == MOST_FAULTS

    def test_lines_without_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As many labels as a list may have; that the others are not read is told."""
        monkeypatch.setattr(decode, "MOST_LABELS", 3)
        line = json.dumps(GOOD).encode()
        found = from_json(b"\n\n".join([line] * 4), "here")
        assert len(found.records) == 3
        assert str(found.faults[0]).startswith("here: from line 7 on nothing is read")
        assert from_json(b"\n".join([line] * 3) + b"\n\n", "here").wrong == 0

    def test_all_texts_are_one(self) -> None:
        """What several messages have is told together, and bounded together."""
        found = Decoded()
        for _ in range(3):
            found.join(from_json(encoded(GOOD, *[0] * 60), "here"))
        assert (len(found.records), found.wrong, len(found.faults)) == (3, 180, MOST_FAULTS)

    def test_null_is_nothing(self) -> None:
        """As many programs write it."""
        [found] = from_json(encoded(GOOD | {"value": None, "id": None, "made": None}), "x").records
        assert found == from_json(encoded(GOOD), "x").records[0]

    def test_a_bad_one_spoils_no_other(self) -> None:
        """It is told with its place."""
        found = from_json(encoded(GOOD, GOOD | {"end": "soon"}, GOOD), "here")
        assert len(found.records) == 2
        assert re.match("here: label 2: the label `end` is 'soon'", str(found.faults[0]))
        lines = from_json(b'{"unit": "a"}\n{"un\n' + json.dumps(GOOD).encode(), "here")
        assert [str(fault)[:14] for fault in lines.faults] == ["here: line 1: ", "here: line 2: "]
        assert len(lines.records) == 1

    @pytest.mark.parametrize(
        ("data", "told"),
        [
            (b"", "here: is not JSON"),
            (b"nonsense", "here: is not JSON"),
            (b"\xff\xfe", "here: is not JSON"),
            (b"[" * 100_000, "here: is not JSON"),
            (b"17", "here: a label is an object"),
            (encoded(17), "here: label 1: a label is an object"),
            (encoded(GOOD | {"clas": "x"}), "clas is unknown.*did you mean class"),
            (encoded(GOOD | {"class": 5}), "class is 5: expected text"),
            (encoded(GOOD | {"revision": 1.5}), "revision is 1.5: expected an integer"),
            (encoded(GOOD | {"revision": -1}), "revision is -1"),
            (encoded(GOOD | {"deleted": "no"}), "deleted is .no.*true or false"),
            (encoded(GOOD | {"unit": "u" * 201}), "at most 200 characters"),
            (encoded(GOOD | {"start": [1]}), "start is"),
            (b" " * (LARGEST + 1), f"here: {LARGEST + 1} bytes, at most {LARGEST}"),
            (b"[" + b"0," * MOST_LABELS + b"0]", f"{MOST_LABELS + 1} labels, at most"),
        ],
    )
    def test_what_is_none_is_told(self, data: bytes, told: str) -> None:
        """Place, field, value and remedy, in one sentence each."""
        [fault] = faults(data)
        assert re.search(told, fault), fault

    @given(st.binary(max_size=200))
    def test_nothing_breaks_it(self, data: bytes) -> None:
        """Whatever comes."""
        found = from_json(data, "here")
        assert found.faults or found.records or data.strip() == b"[]"

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(Label.__struct_encode_fields__) | st.text(max_size=3),
                    inner,
                    max_size=6,
                )
            ),
        )
    )
    def test_nor_does_nonsense_in_good_json(self, document: Any) -> None:
        """Values of any type in any field."""
        found = from_json(json.dumps(document).encode(), "here")
        assert all(isinstance(each, LabelRecord) for each in found.records)

    def test_what_is_told_again_is_the_same(self) -> None:
        """Of every kind of label, to the nanosecond."""
        for fields in (
            {
                "class_": "good",
                "unit": "a",
                "start": "2024-01-01T00:00:00.000001",
                "end": 1704067300,
            },
            {"value": 3.0, "start_value": 1.0, "unit": "a", "start": -1.5, "end": 2},
            {"value": 3.0, "batch": "b", "made": 7, "revision": 3, "job": "j"},
            {"deleted": True, "id": "x"},
        ):
            record = settled(Label(**fields), "t")
            assert settled(label_of(record), "t") == record


class TestShape:
    SHAPE = Shape({"class": "result", "part": "serial"}, unit="line", job="press")

    def test_other_names(self) -> None:
        """What is not told is ignored; a name that means something else there, too."""
        row = {"result": "good", "serial": "7", "class": "A1", "operator": "ann"}
        [found] = from_json(encoded(row), "here", self.SHAPE).records
        assert (found.text, found.piece, found.job, found.unit) == ("good", "7", "press", "")

    def test_a_machine_where_none_is_named(self) -> None:
        """The one that the system stands beside."""
        [found] = from_json(encoded({"result": "good", "start": 1}), "here", self.SHAPE).records
        assert found.unit == "line"


def table(text: str, shape: Shape | None = None, **dialect: Any) -> list[Any]:
    """Labels of a CSV file, or what is told of a line."""
    reader, found = LabelTable("f.csv", Dialect(**dialect), shape or Shape()), []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            found.append(reader.take(number, line))
        except DataError as error:
            found.append(str(error))
    return [each for each in found if each is not None]


class TestCsv:
    def test_the_same_as_in_json(self) -> None:
        """Fields by the names of the columns, in any order; empty cells say nothing."""
        [found] = table("class,end,start,unit,value,deleted\ngood,2,1,press,,\n")
        assert found == from_json(encoded(GOOD), "x").records[0]

    def test_as_excel_writes_it(self) -> None:
        """Its first line, semicolons and decimal commas, also in times."""
        text = "sep=;\nunit;start;end;value;revision\nline;1,5;2,5;3,25;2\n"
        [found] = table(text, delimiter=";", decimal=",")
        assert (found.start_ns, found.end_value, found.revision) == (1_500_000_000, 3.25, 2)

    @pytest.mark.parametrize(("cell", "deleted"), [("x", True), ("Yes", True), ("0", False)])
    def test_deletions(self, cell: str, *, deleted: bool) -> None:
        """Words for true and false."""
        [found] = table(f"id,class,part,deleted\n1,good,7,{cell}\n")
        assert found.deleted is deleted

    @pytest.mark.parametrize(
        ("line", "told"),
        [
            ("good,press,1", "f.csv: line 2 has 3 cells, the header has 4"),
            ("good,press,1,soon", "f.csv: line 2: the label `end` is 'soon'"),
            (",press,1,2", "f.csv: line 2: the label has neither class nor value"),
            ('"good,press,1,2', "f.csv: line 2"),
        ],
    )
    def test_a_bad_line_spoils_no_other(self, line: str, told: str) -> None:
        """It is told with its number."""
        first, second = table(f"class,unit,start,end\n{line}\ngood,press,1,2\n")
        assert first.startswith(told)
        assert isinstance(second, LabelRecord)

    def test_a_header_is_needed(self) -> None:
        """The message names the columns that are there and those that may be."""
        [told] = table("1,2,3\n")
        assert "the columns are 1, 2, 3; expected id, unit" in told
        [told] = table("class;unit\n", Shape({"class": "result"}), delimiter=";")
        assert "the columns are class, unit; expected result" in told

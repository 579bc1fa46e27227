# SPDX-License-Identifier: Apache-2.0
"""Values in JSON documents by path."""

import json
import math
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_agent.sources.json_path import (
    Broken,
    Nowhere,
    decode,
    leaves,
    number,
    number_in,
    parse,
)

DOCUMENT = {
    "motor": {"speed": 1500, "state.code": 3, "it's": "on", "on": True},
    "values": [{"v": 1.5}, {"v": 2.5}],
    "metrics": [{"name": "speed", "value": 7}, {"name": "current", "value": 8, "channel": 2}],
    "Temp (°C)": 21.5,
}
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=20,
)


class TestPaths:
    @pytest.mark.parametrize(
        ("path", "value"),
        [
            ("motor.speed", 1500),
            ("$.motor.speed", 1500),
            ("$['motor'].speed", 1500),
            ('motor["state.code"]', 3),
            (r"motor['it\'s']", "on"),
            ("values[0].v", 1.5),
            ("values[-1].v", 2.5),
            ("$.values[1]['v']", 2.5),
            ("metrics[?@.name=='current'].value", 8),
            ("metrics[?(@.name == 'current')].value", 8),
            ("metrics[?@['name']==\"speed\"].value", 7),
            ("metrics[?@.channel==2].value", 8),
            ("Temp (°C)", 21.5),
        ],
    )
    def test_name_one_place(self, path: str, value: object) -> None:
        """Names, quoted names, positions and matches, with or without ``$.``."""
        assert parse(path).find(DOCUMENT) == value

    def test_none_is_the_document(self) -> None:
        """A server that sends one bare number needs no path."""
        for path in ("", "$"):
            assert parse(path).find(7) == 7

    @pytest.mark.parametrize(
        ("path", "why"),
        [
            ("motor.torque", "motor has no 'torque', only speed, state.code, it's, on"),
            ("motor.speed.rpm", "motor.speed is a number, so it has no 'rpm'"),
            ("motor[0]", "motor is an object and no list"),
            ("values[2]", "values has 2 elements, so none at 2"),
            ("values[-3]", "values has 2 elements, so none at -3"),
            ("metrics[?@.name=='torque'].value", "metrics has no element with name 'torque'"),
            ("values.v", "values is a list, so it has no 'v'"),
            ("motor['on'][0]", r"motor\.on is a number and no list"),
            ("motor['it\\'s'].x", "is a text, so it has no 'x'"),
        ],
    )
    def test_that_lead_nowhere_say_what_there_is(self, path: str, why: str) -> None:
        """Words for a log line: where it breaks off, and what stands there instead."""
        with pytest.raises(Nowhere, match=why):
            parse(path).find({**DOCUMENT})

    @pytest.mark.parametrize(
        "path",
        [".a", "a..b", "a.", "a[", "a[x]", "a[*]", "..a", "a b c[", "a['b]", "$a]", "a[?@.x>1]",
         "a" * 501, "a" + "[0]" * 40, "a'b", "[1]b"],
    )  # fmt: skip
    def test_that_are_none_are_refused(self, path: str) -> None:
        """With the character at which reading ended, or its bound."""
        with pytest.raises(ValueError, match="path"):
            parse(path)

    @given(st.text(max_size=30))
    def test_any_text_is_a_path_or_refused(self, text: str) -> None:
        """No other error comes out of the parser or of looking."""
        try:
            found = parse(text)
        except ValueError:
            return
        try:
            found.find(DOCUMENT)
        except Nowhere:
            return


class TestDocuments:
    def test_python_and_java_script_numbers(self) -> None:
        """NaN is no JSON, and is written all the same; the other values still count."""
        found = decode(b'{"a": NaN, "b": -Infinity, "c": 1}', 100)
        assert isinstance(found, dict)
        assert math.isnan(found["a"])
        assert (found["b"], found["c"]) == (-math.inf, 1)

    @pytest.mark.parametrize(
        "body",
        [b"", b"{", b"<html>", b'{"a": NaN', b"\xff\xfe", b"[" * 5000, b"[NaN" + b"[" * 100_000],
    )
    def test_garbage_is_broken(self, body: bytes) -> None:
        """Whatever is wrong with it."""
        with pytest.raises(Broken, match="no JSON"):
            decode(body, 1 << 20)

    def test_half_characters_are_broken(self) -> None:
        """No file and no message could keep them, and what is no JSON is read leniently."""
        for text in (b'"\\ud800"', b'{"\\uDfff": 1}', b'"\\ud800\\ud800"'):
            for body in (text, b"[NaN, " + text + b"]"):
                with pytest.raises(Broken, match="no JSON"):
                    decode(body, 100)
        assert decode(b'[Infinity, "\\ud83d\\ude00 \\\\ud800"]', 100) == [
            math.inf,
            "\U0001f600 \\ud800",
        ]

    def test_too_long_is_broken_unread(self) -> None:
        """The bound stands before the parser."""
        with pytest.raises(Broken, match="5 bytes, at most 4"):
            decode(b"12345", 4)

    @given(st.binary(max_size=60))
    def test_arbitrary_bytes(self, body: bytes) -> None:
        """A document or Broken, nothing else."""
        try:
            decode(body, 50)
        except Broken:
            return

    @given(DOCUMENTS)
    def test_every_listed_path_finds_its_value(self, document: object) -> None:
        """What discovery prints can be written under `tags` as it stands."""
        text = json.dumps(document)
        read = decode(text.encode(), 1 << 20)
        for path, value in leaves(read, 100):
            found = parse(path).find(read)
            assert found == value or value != value  # noqa: PLR0124  NaN

    def test_elements_with_names_are_listed_by_them(self) -> None:
        """A list that a server orders anew each time keeps its paths."""
        listed = dict(leaves(DOCUMENT, 100))
        assert listed["metrics[?@.name=='speed'].value"] == 7
        assert listed["values[1].v"] == 2.5
        assert listed["motor['state.code']"] == 3

    def test_listing_is_bounded(self) -> None:
        """Neither a long list nor a deep one takes more than asked."""
        assert len(list(leaves([*range(10_000)], 5))) == 5
        deep: object = 1
        for _ in range(200):
            deep = [deep]
        assert list(leaves(deep, 5)) == []

    def test_names_that_are_no_path(self) -> None:
        """A long name before many values would be written a thousand times."""
        document = {"k" * 10_000: ["a"] * 10_000, "short": 1, "x" * 500: 2, "x" * 501: 3}
        tracemalloc.start()
        try:
            found = list(leaves(document, 10_000))
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert found == [("short", 1), ("x" * 500, 2)]
        assert most < 5 << 20


class TestNumbers:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [(3, (3.0, "")), (2.5, (2.5, "")), (True, (1.0, "")), (False, (0.0, "")),
         ("4.5", (4.5, "")), (" 4 ", (4.0, "")), (10**400, (math.inf, "")),
         (-(10**400), (-math.inf, ""))],
    )  # fmt: skip
    def test_numbers(self, value: object, expected: tuple[float, str]) -> None:
        """Numbers, truths and texts that write a number."""
        assert number(value) == expected

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ("running", "running"),
            ("1_000", "1_000"),
            (None, ""),
            ([1], "a list"),
            ({}, "an object"),
        ],
    )
    def test_others_are_nan_with_a_text(self, value: object, text: str) -> None:
        """Nothing else passes as a number."""
        found, told = number(value)
        assert math.isnan(found)
        assert told == text

    @given(st.floats(allow_nan=False))
    def test_texts_of_numbers(self, value: float) -> None:
        """What Python writes is read back."""
        assert number_in(repr(value)) == (value, "")

# SPDX-License-Identifier: Apache-2.0
"""Types and values in words."""

import datetime as dt
from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta, Struct
from msgspec.inspect import type_info

from fedmill_shared.toml.words import description, show, words


class Table(Struct):
    """Any table."""


PORT = Annotated[int, Meta(ge=1, le=65535)]
NAME = Annotated[str, Meta(pattern="^[a-z0-9_-]{1,32}$")]
TOPIC_LEVEL = Annotated[str, Meta(pattern=r"^[^/+#\x00]{1,64}\Z")]
PAIR = Annotated[list[str], Meta(min_length=2, max_length=2)]
SOME = Annotated[list[str], Meta(min_length=1, max_length=8)]


class TestWords:
    """What a field accepts."""

    @pytest.mark.parametrize(
        ("kind", "expected"),
        [
            (int, "an integer"),
            (PORT, "an integer of at least 1 and at most 65535"),
            (Annotated[float, Meta(gt=0.0)], "a number greater than 0"),
            (Annotated[float, Meta(ge=0.0, lt=0.5)], "a number of at least 0 and below 0.5"),
            (str, "text"),
            (Annotated[str, Meta(min_length=1)], "text of at least 1 characters"),
            (NAME, "text of 1 to 32 characters: a-z 0-9 _ -"),
            (Annotated[str, Meta(pattern="^x+$")], "text that matches ^x+$"),
            (TOPIC_LEVEL, "text of 1 to 64 characters without / + #"),
            (Annotated[str, Meta(pattern=r"^[^+#/\x00]+\Z")], "text without + # /"),
            (
                Annotated[str, Meta(pattern=r"^[^+#/\x00]*\Z", max_length=100)],
                "text of at most 100 characters without + # /",
            ),
            (bool, "true or false"),
            (Literal["b", "a", "c"], '"a", "b" or "c"'),
            (Literal["only"], '"only"'),
            (Literal[1, 2], "1 or 2"),
            (list[int], "a list, each an integer"),
            (PAIR, "a list of exactly 2 items, each text"),
            (SOME, "a list of 1 to 8 items, each text"),
            (Annotated[list[str], Meta(max_length=8)], "a list of at most 8 items, each text"),
            (tuple[int, str], "a list of an integer, then text"),
            (dict[str, float], "a table whose values are each a number"),
            (int | None, "an integer"),
            (int | str, "an integer or text"),
            (dt.datetime, "a date and time"),
            (Table, "a table"),
            (Any, "any value"),
        ],
    )
    def test_kind(self, kind: Any, expected: str) -> None:
        """Each type has words of its own."""
        assert words(type_info(kind)) == expected

    def test_description_is_the_outermost(self) -> None:
        """A field's own description goes before the one of its type's alias."""
        alias = Annotated[int, Meta(ge=1, description="inner")]
        assert description(type_info(Annotated[alias, Meta(description="outer")])) == "outer"
        assert description(type_info(alias)) == "inner"
        assert description(type_info(int)) == ""


class TestShow:
    """Values as they are written."""

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("12 kHz", '"12 kHz"'),
            ("Prüfstand\n", '"Prüfstand\\n"'),
            (True, "true"),
            (1.0, "1.0"),
            (float("inf"), "inf"),
            ([1, "a"], '[1, "a"]'),
            ([dt.date(2024, 1, 31)], '["2024-01-31"]'),
            (dt.datetime(2024, 1, 31, 12, tzinfo=dt.UTC), "2024-01-31 12:00:00+00:00"),
            (dt.time(7, 32), "07:32:00"),
            ({"a": 1}, "a table"),
            ([{"a": 1}], "a list of tables"),
            ("x" * 100, '"' + "x" * 59 + "..."),
        ],
    )
    def test_value(self, value: object, expected: str) -> None:
        """As in the file, and never longer than a line."""
        assert show(value) == expected

# SPDX-License-Identifier: Apache-2.0
"""Tables: at any width every number is whole, every name complete, and what is missing is said."""

import re
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedmill_coordinator.cli.table import (
    Column,
    Row,
    ago,
    kilobytes,
    megabytes,
    metric_column,
    number,
    show_table,
    value,
)

Printed = Callable[[int | None, list[Column], list[Row]], list[str]]
ROWS: list[Row] = [
    {"name": "press-1", "scored": 1234567, "text": "no column force_kN in any file", "load": 12.5},
    {"name": "hall-3-press-line-north-gateway1", "scored": 8, "text": "", "load": 0.25},
]
NAME = Column("agent", value("name"))
SCORED = Column("windows scored", value("scored"), right=True)
LOAD = Column("load", value("load", number), right=True, spare=1)
TEXT = Column("text", value("text"), wraps=True)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Printed:
    """Print a table on this many columns; its lines below the title."""

    def printed(width: int | None, columns: list[Column], rows: list[Row]) -> list[str]:
        if width is None:
            monkeypatch.delenv("COLUMNS", raising=False)
        else:
            monkeypatch.setenv("COLUMNS", str(width))
        show_table("title", columns, rows)
        output = capsys.readouterr().out.splitlines()
        assert output[0] == "title"
        return [line.rstrip() for line in output[1:]]

    return printed


class TestRoom:
    """What happens as the room gets less."""

    def test_plenty(self, lines: Printed) -> None:
        """One line for the headings, one for each row; a file or a pipe has plenty."""
        head, rule, first, second = lines(None, [NAME, SCORED, LOAD, TEXT], ROWS)
        assert head.split() == ["agent", "windows", "scored", "load", "text"]
        assert set(rule) == {"─"}
        assert first.split()[:3] == ["press-1", "1234567", "12.50"]
        assert first.endswith("no column force_kN in any file")
        assert second.split() == [ROWS[1]["name"], "8", "0.2500"]

    def test_headings_then_prose_take_more_lines(self, lines: Printed) -> None:
        """Before anything is left out."""
        head, below, _, first, more, *_ = lines(76, [NAME, SCORED, LOAD, TEXT], ROWS)
        assert (head.split(), below.split()) == (["windows"], ["agent", "scored", "load", "text"])
        assert "press-1" in first
        assert "12.50" in first
        assert more.strip() == "file"

    def test_what_can_be_spared_goes_and_is_named(self, lines: Printed) -> None:
        """The least important first."""
        clock = Column("clock ms", value("scored"), right=True, spare=2)
        *_, note = lines(52, [NAME, SCORED, LOAD, clock], ROWS)
        assert note == "no room for: clock ms (see --json)"
        *_, note = lines(43, [NAME, SCORED, LOAD, clock], ROWS)
        assert note == "no room for: clock ms, load (see --json)"

    def test_names_go_on_in_the_next_line(self, lines: Printed) -> None:
        """At last."""
        output = lines(24, [NAME, SCORED], ROWS)
        assert max(map(len, output)) <= 24
        assert "".join(line.split()[0] for line in output[4:]) == ROWS[1]["name"]

    def test_numbers_are_whole_at_any_width(self, lines: Printed) -> None:
        """Rather is the table wider than its room."""
        output = "\n".join(lines(5, [SCORED, NAME], ROWS))
        assert "1234567" in output

    @given(
        width=st.integers(1, 130),
        names=st.lists(st.from_regex(r"[a-z0-9-]{1,32}", fullmatch=True), min_size=1, max_size=3),
        numbers=st.lists(st.integers(0, 10**12), min_size=5, max_size=5),
    )
    @settings(
        max_examples=60,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    def test_nothing_is_cut(
        self, lines: Printed, width: int, names: list[str], numbers: list[int]
    ) -> None:
        """Numbers are in one piece, names complete, and the lines no longer than need be."""
        fields = {f"n{place}": each for place, each in enumerate(numbers)}
        rows: list[Row] = [{"name": name, **fields} for name in names]
        columns = [NAME]
        columns += [
            Column(key, value(key), right=True, spare=place % 3) for place, key in enumerate(fields)
        ]
        output = lines(width, columns, rows)
        note = re.search(r"no room for: (.*)", " ".join(output))
        hidden = set(re.findall(r"n\d", note[1])) if note else set()
        body = output[2:] if note is None else output[2 : output.index(note_line(output))]
        shown = [str(each) for key, each in fields.items() if key not in hidden]
        full = [line.split() for line in body if not line.startswith(" ")]
        assert [cells[1:] for cells in full if len(cells) > 1] == [shown] * len(names)
        assert "".join(cells[0] for cells in full) == "".join(names)
        if width >= 80:
            assert max(map(len, output)) <= width


def note_line(output: list[str]) -> str:
    """The first line of the note below a table."""
    return next(line for line in output if line.startswith("no room for"))


class TestColumns:
    """What is shown of a row."""

    def test_empty_ones_are_left_out(self, lines: Printed) -> None:
        """Without a note: there was nothing to say."""
        output = lines(80, [NAME, Column("alias", value("alias"))], [{**ROWS[0], "alias": None}])
        assert output[0] == "agent"
        assert len(output) == 3

    def test_texts_of_agents_steer_nothing(self, lines: Printed) -> None:
        """Neither mark-up nor control characters nor line ends."""
        *_, row = lines(80, [NAME], [{"name": "[red]a\x1b[31m\nb"}])
        assert row == "[red]a [31m b"

    def test_one_metric_is_a_heading(self) -> None:
        """Rows that have none yet stay empty."""
        rows: list[Row] = [{"metric": "rmse", "value": 12.0}, {"metric": "", "value": None}]
        column = metric_column(rows)
        assert (column.heading, column.right) == ("rmse", True)
        assert [column.cell(row) for row in rows] == ["12.00", ""]

    def test_several_metrics_stand_beside_their_values(self) -> None:
        """Numbers of two kinds never stand in one column without their name."""
        rows: list[Row] = [
            {"metric": "rmse", "value": 12.0},
            {"metric": "accuracy", "value": 0.5},
            {"metric": "", "value": None},
        ]
        column = metric_column(rows)
        assert column.heading == "metric"
        assert [column.cell(row) for row in rows] == ["rmse 12.00", "accuracy 0.5000", ""]


class TestForms:
    """Numbers and times as people read them."""

    @pytest.mark.parametrize(
        ("amount", "text"),
        [
            (0.253, "0.2530"),
            (0.0, "0.000"),
            (1.0, "1.000"),
            (0.000012345, "1.234e-05"),
            (12345.678, "12346"),
            (-71.863, "-71.86"),
            (1e300, "1.000e+300"),
            (float("nan"), "nan"),
            (float("inf"), "inf"),
            (7, "7"),
        ],
    )
    def test_numbers(self, amount: float, text: str) -> None:
        """Four significant digits; whole numbers as they are."""
        assert number(amount) == text

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (0, "0 s"),
            (119, "119 s"),
            (120, "2 min"),
            (7199, "119 min"),
            (7200, "2 h"),
            (400_000, "4 d"),
        ],
    )
    def test_times(self, seconds: int, text: str) -> None:
        """In the largest unit of which there are two."""
        assert ago(seconds) == text

    def test_bytes(self) -> None:
        """Millions, two decimals; or thousands, one below a thousand of them."""
        assert (megabytes(1_500_000), megabytes(20)) == ("1.50", "0.00")
        assert (kilobytes(1_500_000), kilobytes(68_211), kilobytes(20)) == ("1500", "68.2", "0.0")
        assert (kilobytes(999_900), kilobytes(1_000_000)) == ("999.9", "1000")

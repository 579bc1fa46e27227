# SPDX-License-Identifier: Apache-2.0
"""Small files of the agent: damage is noticed, whatever it is, and never half used."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_agent import sealed
from fedmill_agent.alarms import book
from fedmill_agent.alarms.book import HIGHEST, MOST_ENTRIES, MOST_WAITING, Book, Entry, Page
from fedmill_agent.alarms.machine import Standing
from fedmill_agent.alarms.record import AlarmRecord
from fedmill_agent.monitoring.known import KnownLimits
from fedmill_agent.uncertainty.known import Known
from fedmill_shared.errors import DataError, StoreError
from fedmill_shared.messages import UNREADABLE


def record(**fields: Any) -> AlarmRecord:
    """One turn of an alarm."""
    times = {"since_ns": 1, "start_ns": 1, "end_ns": 2, "told_ns": 3}
    named = {"alarm": "hot", "severity": "warning", "state": "raised", "unit": "u", "run": "r"}
    return AlarmRecord(**{"number": 1, "version": "v", **times, **named, **fields})


def page(**fields: Any) -> Page:
    """One machine with an alarm."""
    entries = {"hot": {"u": Entry(Standing(raised=True, since_ns=123456), record())}}
    return Page(**{"number": 7, "entries": entries, **fields})


class TestFile:
    def test_every_flipped_bit_is_noticed(self, tmp_path: Path) -> None:
        """Without a checksum a third of them would be taken for other alarms."""
        path = tmp_path / "alarms.msgpack"
        sealed.write(path, page())
        whole = path.read_bytes()
        assert book.read(path) == page()
        for bit in range(len(whole) * 8):
            damaged = bytearray(whole)
            damaged[bit // 8] ^= 1 << bit % 8
            path.write_bytes(damaged)
            with pytest.raises(DataError, match="damaged"):
                book.read(path)

    def test_cut_off_anywhere(self, tmp_path: Path) -> None:
        """A disk that lost the end of it."""
        path = tmp_path / "alarms.msgpack"
        whole = sealed.sealed(page())
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            with pytest.raises(UNREADABLE):
                sealed.read(path, Page, 1 << 20)

    def test_nothing_is_read_beyond_the_limit(self, tmp_path: Path) -> None:
        """A file that has grown fills no memory."""
        path = tmp_path / "alarms.msgpack"
        sealed.write(path, page())
        size = path.stat().st_size
        assert sealed.read(path, Page, size) == page()
        with pytest.raises(DataError, match="more than"):
            sealed.read(path, Page, size - 1)
        assert sealed.read(tmp_path / "none", Page, 1) is None

    def test_what_is_no_file(self, tmp_path: Path) -> None:
        """A folder in its place is told as such."""
        (tmp_path / "alarms.msgpack").mkdir()
        with pytest.raises(StoreError, match="cannot be read"):
            book.read(tmp_path / "alarms.msgpack")

    @given(st.binary(max_size=100))
    def test_any_bytes(self, tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
        """Whatever stands there."""
        path = tmp_path_factory.getbasetemp() / "any.msgpack"
        path.write_bytes(data)
        with pytest.raises(UNREADABLE):
            sealed.read(path, Page, 1 << 20)


class _Loose(msgspec.Struct, frozen=True):
    number: object = 0
    entries: object = msgspec.field(default_factory=dict)
    waiting: object = ()


class _Versions(msgspec.Struct, frozen=True):
    versions: object


class TestAlarms:
    @pytest.mark.parametrize("number", [2**64 - 1, HIGHEST + 1, -1])
    def test_a_number_that_cannot_go_on(self, tmp_path: Path, number: int) -> None:
        """The next one would not fit in any message."""
        sealed.write(tmp_path / book.FILE, _Loose(number))
        with pytest.raises(DataError, match="damaged"):
            book.read(tmp_path / book.FILE)

    def test_names_that_have_no_room(self, tmp_path: Path) -> None:
        """A record that the journal could never keep would hold up all others."""
        sealed.write(tmp_path / book.FILE, _Loose(1, {}, (record(unit="u" * 9000),)))
        with pytest.raises(DataError, match="damaged"):
            book.read(tmp_path / book.FILE)

    def test_more_than_is_remembered(self, tmp_path: Path) -> None:
        """The newest stay."""
        machines = {f"u{n}": Entry(Standing(raised=True), record()) for n in range(1500)}
        waiting = tuple(record(number=n) for n in range(500))
        sealed.write(tmp_path / book.FILE, Page(1, {"hot": machines}, waiting))
        found = Book(tmp_path / book.FILE, book.read(tmp_path / book.FILE), ["hot"])
        assert len(found.open()) == MOST_ENTRIES
        assert found.open()[-1][1] == "u1499"
        assert [each.number for each in found.waiting] == list(range(500))[-MOST_WAITING:]


class TestCertainty:
    @pytest.mark.parametrize(
        "fields",
        [
            {"temperature": 0.0},
            {"temperature": -1.0},
            {"temperature": float("nan")},
            {"widths": {"edges": [1.0, 2.0], "halves": [1.0]}},
            {"widths": {"edges": [], "halves": []}},
        ],
    )
    def test_numbers_that_nothing_can_be_divided_by(
        self, tmp_path: Path, fields: dict[str, Any]
    ) -> None:
        """Such a calibration counts as none: it is made again."""
        told = {"generation": 1, "windows": 30, "coverage": 0.9}
        path = tmp_path / "certainty.msgpack"
        sealed.write(path, _Versions({"v": told}))
        assert Known(path).get("v") is not None
        sealed.write(path, _Versions({"v": told | fields}))
        assert Known(path).get("v") is None

    def test_a_flipped_bit_counts_as_none(self, tmp_path: Path) -> None:
        """Also in the middle of a number."""
        path = tmp_path / "certainty.msgpack"
        told = {"generation": 1, "windows": 30, "coverage": 0.9, "temperature": 1.5}
        whole = bytearray(sealed.sealed(_Versions({"v": told})))
        whole[whole.index(b"temperature") + 13] ^= 1
        path.write_bytes(whole)
        assert Known(path).get("v") is None


class TestLimits:
    @pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
    def test_a_limit_that_is_none(self, tmp_path: Path, value: float) -> None:
        """It would hide every alarm, or raise all of them."""
        sealed.write(tmp_path / "limits.msgpack", _Versions({"v": [value, 30, 1]}))
        assert KnownLimits(tmp_path / "limits.msgpack").newest() is None

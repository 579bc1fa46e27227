# SPDX-License-Identifier: Apache-2.0
"""Web servers as a source: real ones on the loopback, good and bad."""

import datetime as dt
import gzip
import json
import math
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from email.utils import format_datetime
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest
from tests.agent.sources.live.stands.rest import HOST, Reply, Server, document

from fedmill_agent.config import load
from fedmill_agent.sources.live import BAD, GOOD, STALE, Delivered, Readings
from fedmill_agent.sources.rest import KIND, RestOptions, answers
from fedmill_agent.sources.rest.session import RestSession
from fedmill_agent.sources.timeline import iso
from fedmill_coordinator.demo.broker import free_port
from fedmill_shared.clock import ManualClock, SystemClock
from fedmill_shared.errors import ConfigError, SourceError

LIVE = KIND.live
assert LIVE is not None
SECOND = 10**9
START = 1_704_067_200 * SECOND


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that listens until the test ends."""
    made = Server()
    made.start()
    yield made
    made.stop()


def options(server: Server, page: str = "values", **changes: Any) -> RestOptions:
    """Of a source that asks one page, as often as it is read."""
    usual = {"name": "line", "url": server.url + page, "interval_seconds": 0.001}
    return RestOptions(**(usual | changes))


class Reader:
    """A session, read until something comes, and closed in the end."""

    def __init__(self, own: RestOptions, tags: Sequence[str], clock: Any = None) -> None:
        session = LIVE.open(own, tags, clock or SystemClock())  # type: ignore[union-attr]
        assert isinstance(session, RestSession)
        self.session = session

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def next(self) -> dict[str, Readings]:
        """The next readings by tag; an empty answer where ten polls bring none."""
        for _ in range(10):
            came = self.session.read(0.5)
            if came:
                return by_tag(came)
        return {}


def by_tag(delivered: Sequence[Delivered]) -> dict[str, Readings]:
    """Readings by their tag."""
    return {each.tag: each for each in delivered if isinstance(each, Readings)}


def plain(found: Mapping[str, Readings]) -> dict[str, list[float]]:
    """Values by tag."""
    return {tag: each.values.tolist() for tag, each in found.items()}


class TestJson:
    def test_values_by_path(self, server: Server) -> None:
        """Numbers, truths and texts of numbers, as old as the answer."""
        server.pages["/values"] = document(
            {"motor": {"speed": 1500.5, "on": True}, "levels": ["3", 4]}
        )
        clock = ManualClock()
        with Reader(options(server), ["motor.speed", "motor.on", "levels[0]"], clock) as reader:
            found = reader.next()
        assert plain(found) == {"motor.speed": [1500.5], "motor.on": [1.0], "levels[0]": [3.0]}
        assert {int(each.times_ns[0]) for each in found.values()} == {clock.now_ns()}
        assert {int(each.quality[0]) for each in found.values()} == {GOOD}

    def test_times_and_qualities_of_the_server(self, server: Server) -> None:
        """Of the whole answer, or beside each value."""
        server.pages["/values"] = document(
            {"at": "2024-01-01T00:00:01Z", "ok": False, "speed": {"v": 7, "t": 1000, "q": "good"}}
        )
        whole = options(server, time_path="at", quality_path="ok")
        beside = options(server, time_path="@.t", time_unit="ms", quality_path="@.q")
        for own, time_ns, quality in ((whole, START + SECOND, BAD), (beside, SECOND, GOOD)):
            with Reader(own, ["speed.v"]) as reader:
                found = reader.next()["speed.v"]
            assert (int(found.times_ns[0]), int(found.quality[0])) == (time_ns, quality)
            assert found.values.tolist() == [7.0]

    @pytest.mark.parametrize(
        ("told", "quality"),
        [(192, GOOD), (216, GOOD), ("192", GOOD), (True, GOOD), ("Good", GOOD), (0, BAD),
         (None, BAD), ("Bad", BAD), (False, BAD), (500, STALE), (64, STALE), ("stale", STALE),
         ([], BAD), (1e9, BAD)],
    )  # fmt: skip
    def test_qualities(self, server: Server, told: object, quality: int) -> None:
        """As numbers, truths and words; what is unknown is bad."""
        server.pages["/values"] = document({"v": 1, "q": told})
        with Reader(options(server, quality_path="q"), ["v"]) as reader:
            assert int(reader.next()["v"].quality[0]) == quality

    def test_values_that_are_none(self, server: Server) -> None:
        """Null, NaN and texts are bad, and a text is handed on; none of them passes as a number."""
        server.pages["/values"] = document(b'{"a": null, "b": NaN, "c": "running", "d": {}}')
        with Reader(options(server), ["a", "b", "c", "d"]) as reader:
            found = reader.next()
            assert reader.session.counts["type"] == 2
        assert all(math.isnan(each.values[0]) for each in found.values())
        assert {int(each.quality[0]) for each in found.values()} == {BAD}
        assert [found[tag].text for tag in "abcd"] == ["", "", "running", "an object"]

    def test_a_missing_tag_is_its_own_problem(self, server: Server) -> None:
        """The others come, and it does too once it is there."""
        server.pages["/values"] = document({"a": 1})
        with Reader(options(server), ["a", "b.c"]) as reader:
            assert plain(reader.next()) == {"a": [1.0]}
            assert reader.session.problems == {"b.c": "the document has no 'b', only a"}
            server.pages["/values"] = document({"a": 1, "b": {"c": 2}})
            assert plain(reader.next()) == {"a": [1.0], "b.c": [2.0]}
            assert reader.session.problems == {}

    def test_types_that_change(self, server: Server) -> None:
        """Number, text, list, number: the session lives, and only numbers count."""
        with Reader(options(server), ["v"]) as reader:
            reader.next()
            seen = []
            for value in (1, "off", [1, 2], {"x": 1}, 2):
                server.pages["/values"] = document({"v": value})
                found = reader.next()["v"]
                seen.append((found.values.tolist(), int(found.quality[0])))
        assert seen[0] == ([1.0], GOOD)
        assert seen[-1] == ([2.0], GOOD)
        assert all(math.isnan(values[0]) and quality == BAD for values, quality in seen[1:-1])

    def test_blocks(self, server: Server) -> None:
        """A list of samples ends at its time; its rate is that of the signal."""
        server.pages["/values"] = document({"t": 10, "wave": [1, 2, None, 4]})
        own = options(server, time_path="t", rates={"vibration": 4.0}, tags={"vibration": "wave"})
        with Reader(own, ["wave"]) as reader:
            found = reader.next()["wave"]
        assert found.times_ns.tolist() == [9_250_000_000, 9_500_000_000, 9_750_000_000, 10 * SECOND]
        assert found.quality.tolist() == [GOOD, GOOD, BAD, GOOD]
        assert found.values[[0, 1, 3]].tolist() == [1.0, 2.0, 4.0]

    def test_blocks_that_cannot_be(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        """More samples than the memory is for, or more seconds than a day has."""
        server.pages["/values"] = document({"wave": [1, 2, 3, 4], "slow": [1] * 100})
        rates = {"vibration": 4.0, "slow": 1e-3}
        own = options(server, rates=rates, tags={"vibration": "wave"})
        monkeypatch.setattr(answers, "MOST_SAMPLES", 100)
        with Reader(own, ["wave", "slow"]) as reader:
            found = reader.next()
            assert list(found) == ["wave"]
            assert "a list of 100 values at 0.001 Hz is no block" in reader.session.problems["slow"]
            monkeypatch.setattr(answers, "MOST_SAMPLES", 3)
            again = reader.next()["wave"]
            assert (again.quality.tolist(), again.text) == ([BAD], "a list")

    def test_several_pages(self, server: Server) -> None:
        """A tag may name a page of the same server; each page is asked once for all its tags."""
        server.pages["/values"] = document({"a": 1})
        server.pages["/other/page"] = document({"b": 2, "c": 3})
        tags = ["a", "/other/page#b", "other/page#c"]
        with Reader(options(server), tags) as reader:
            assert plain(reader.next()) == {"a": [1.0]}
            assert plain(reader.next()) == {"/other/page#b": [2.0], "other/page#c": [3.0]}
        assert [path for path, _ in server.requests] == ["/values", "/other/page"]


class TestOtherFormats:
    def test_csv(self, server: Server) -> None:
        """New rows by their time, each once, as the dialect writes them."""
        rows = ["Zeit;Kraft;Güte", "1;1,5;192", "2;2,5;0"]
        server.pages["/values"] = lambda _q, _h: (200, {}, "\r\n".join(rows).encode())
        own = options(server, format="csv", delimiter=";", decimal=",", time_path="Zeit",
                      quality_path="Güte")  # fmt: skip
        with Reader(own, ["Kraft"]) as reader:
            first = reader.next()["Kraft"]
            rows.append("3;kaputt;192")
            second = reader.next()["Kraft"]
            assert reader.next() == {}
        assert (first.values.tolist(), first.times_ns.tolist()) == (
            [1.5, 2.5],
            [SECOND, 2 * SECOND],
        )
        assert first.quality.tolist() == [GOOD, BAD]
        assert (second.times_ns.tolist(), second.text) == ([3 * SECOND], "kaputt")

    def test_csv_without_times_counts_its_last_row(self, server: Server) -> None:
        """The row that a logger wrote last is what is now."""
        server.pages["/values"] = document(b"a,b\n1,2\n3,4\n")
        with Reader(options(server, format="csv"), ["b", "c"]) as reader:
            assert plain(reader.next()) == {"b": [4.0]}
            assert "no column 'c', only a, b" in reader.session.problems["c"]

    def test_one_number(self, server: Server) -> None:
        """A bare number, whatever its tag."""
        server.pages["/values"] = document(b" 21,5\r\n")
        with Reader(options(server, format="text", decimal=","), ["temperature"]) as reader:
            assert plain(reader.next()) == {"temperature": [21.5]}

    @pytest.mark.parametrize("body", [b"", b"a,b\n1\n", b"\xff\xff", b'a\n"' + b"x" * 140_000])
    def test_csv_that_is_none(self, server: Server, body: bytes) -> None:
        """Counted as garbage; its values are bad."""
        server.pages["/values"] = document(body)
        with Reader(options(server, format="csv"), ["a"]) as reader:
            assert int(reader.next()["a"].quality[0]) == BAD
            assert reader.session.counts["garbage"] == 1


class Archive:
    """A page of records that a test adds to; ``since`` is inclusive, and a page has a limit."""

    def __init__(self, limit: int = 1000, *, inclusive: bool = True) -> None:
        self.records: list[dict[str, object]] = []
        self.asked: list[str] = []
        self._limit = limit
        self._inclusive = inclusive

    def __call__(self, query: Mapping[str, str], _headers: Mapping[str, str]) -> Reply:
        """The oldest records since the time that the query has."""
        since = int(query["since"])
        self.asked.append(query["since"])
        found = [
            each
            for each in self.records
            if int(str(each["t"])) > since or (self._inclusive and each["t"] == since)
        ]
        return 200, {}, json.dumps({"data": {"rows": found[: self._limit]}}).encode()


class TestRecords:
    def own(self, server: Server, **changes: Any) -> RestOptions:
        """Options for an archive with times in milliseconds."""
        usual = {"records": "data.rows", "time_path": "t", "time_unit": "ms", "since_format": "ms"}
        return options(server, "archive?since={since}", **(usual | changes))

    @pytest.mark.parametrize("inclusive", [True, False])
    @pytest.mark.parametrize("limit", [3, 1000])
    def test_nothing_is_lost_or_repeated(
        self, server: Server, limit: int, *, inclusive: bool
    ) -> None:
        """Whatever comes between two polls comes page by page, each record once, in order."""
        archive = server.pages["/archive"] = Archive(limit, inclusive=inclusive)
        seen: list[float] = []
        with Reader(self.own(server, history_seconds=3600.0), ["v"], SystemClock()) as reader:
            now = time.time_ns() // 10**6
            for burst in (1, 7, 0, 2, 12):
                archive.records += [
                    {"t": now + len(archive.records) + i, "v": len(archive.records) + i}
                    for i in range(burst)
                ]
                while found := reader.next():
                    seen += found["v"].values.tolist()
        assert seen == [float(i) for i in range(22)]

    def test_the_first_question_goes_back_as_far_as_wished(self, server: Server) -> None:
        """From now on by default; the time is written as the server wants it."""
        archive = server.pages["/archive"] = Archive()
        clock = ManualClock(START)
        for history in (0.0, 60.0):
            with Reader(self.own(server, history_seconds=history), ["v"], clock):
                pass
        assert archive.asked == [str(START // 10**6), str(START // 10**6 - 60_000)]

    def test_iso_times_are_quoted(self, server: Server) -> None:
        """Colons and a plus would be read as something else."""
        server.pages["/archive"] = document({"data": {"rows": []}})
        clock = ManualClock(START + 5)
        with Reader(self.own(server, since_format="iso"), ["v"], clock):
            pass
        assert server.requests[0][0] == "/archive?since=2024-01-01T00%3A00%3A00.000000005Z"
        assert iso(START + 5) == "2024-01-01T00:00:00.000000005Z"

    def test_several_records_of_one_time(self, server: Server) -> None:
        """One that comes later with the time of the last one still counts, once."""
        archive = server.pages["/archive"] = Archive()
        now = time.time_ns() // 10**6 + 1000
        archive.records = [{"t": now, "v": 1}, {"t": now, "w": 2}]
        with Reader(self.own(server), ["v", "w"]) as reader:
            assert plain(reader.next()) == {"v": [1.0], "w": [2.0]}
            archive.records.append({"t": now, "v": 3})
            assert plain(reader.next())["v"] == [3.0]
            assert reader.next() == {}

    def test_a_restart_goes_on_where_it_was(self, server: Server, tmp_path: Path) -> None:
        """What came while nobody asked comes then; what was handed over does not come again."""
        archive = server.pages["/archive"] = Archive()
        now = time.time_ns() // 10**6 + 1000
        own = self.own(server, position_file=str(tmp_path / "new" / "line.json"))
        archive.records = [{"t": now, "v": 1}]
        with Reader(own, ["v"]) as reader:
            assert plain(reader.next()) == {"v": [1.0]}
        archive.records += [{"t": now + i, "v": 1 + i} for i in (1, 2)]
        with Reader(own, ["v"]) as reader:
            assert plain(reader.next()) == {"v": [2.0, 3.0]}

    def test_what_was_not_handed_over_comes_again(self, server: Server, tmp_path: Path) -> None:
        """A session that is closed before it was read has lost nothing."""
        archive = server.pages["/archive"] = Archive()
        archive.records = [{"t": time.time_ns() // 10**6 + 1000, "v": 1}]
        own = self.own(server, position_file=str(tmp_path / "line.json"))
        with Reader(own, ["v"]):
            pass
        with Reader(own, ["v"]) as reader:
            assert plain(reader.next()) == {"v": [1.0]}

    def test_records_without_a_time_are_left_out(self, server: Server) -> None:
        """They are counted; the others come, the oldest first."""
        rows = [{"t": 3, "v": 3}, {"v": 9}, {"t": "x", "v": 9}, 7, {"t": 1, "v": 1}]
        server.pages["/values"] = document({"rows": rows})
        own = options(server, records="rows", time_path="t")
        with Reader(own, ["v"]) as reader:
            found = reader.next()["v"]
            assert reader.session.counts["garbage"] == 3
        assert (found.values.tolist(), found.times_ns.tolist()) == (
            [1.0, 3.0],
            [SECOND, 3 * SECOND],
        )

    def test_a_value_with_its_time_counts_once(self, server: Server) -> None:
        """A server that repeats the newest value until there is another brings it once."""
        server.pages["/values"] = document({"t": 1, "v": 1})
        with Reader(options(server, time_path="t"), ["v"]) as reader:
            assert plain(reader.next()) == {"v": [1.0]}
            assert reader.next() == {}
            server.pages["/values"] = document({"t": 2, "v": 1})
            assert plain(reader.next()) == {"v": [1.0]}


class TestAnswers:
    @pytest.mark.parametrize("status", [204, 404, 500, 418])
    def test_other_statuses_are_counted_and_bad(self, server: Server, status: int) -> None:
        """Every tag of the page is bad, with the reason; the next good answer ends that."""
        server.pages["/values"] = lambda _q, _h: (status, {}, b'{"v": 1}' if status != 204 else b"")
        with Reader(options(server), ["v"]) as reader:
            assert int(reader.next()["v"].quality[0]) == BAD
            assert reader.session.counts[f"status {status}"] == 1
            assert f"is answered with {status}" in reader.session.problems["v"]
            server.pages["/values"] = document({"v": 1})
            assert plain(reader.next()) == {"v": [1.0]}
            assert reader.session.problems == {}

    @pytest.mark.parametrize("status", [401, 403])
    def test_wrong_credentials_end_the_session(self, server: Server, status: int) -> None:
        """At the opening, and later on."""
        server.pages["/values"] = lambda _q, _h: (status, {}, b"")
        with pytest.raises(SourceError, match=f"refuses us: {status}"):
            Reader(options(server), ["v"])
        server.pages["/values"] = document({"v": 1})
        with Reader(options(server), ["v"]) as reader:
            reader.next()
            server.pages["/values"] = lambda _q, _h: (status, {}, b"")
            with pytest.raises(SourceError, match="refuses us"):
                reader.next()

    @pytest.mark.parametrize("status", [429, 503])
    def test_a_server_that_wants_to_be_left_alone_is(
        self, server: Server, status: int, tmp_path: Path
    ) -> None:
        """For as long as it wishes, also by a session that is opened anew."""
        server.pages["/values"] = lambda _q, _h: (status, {"Retry_After": "20"}, b"")
        clock = ManualClock()
        own = options(server, position_file=str(tmp_path / "p.json"), interval_seconds=1.0)
        with Reader(own, ["v"], clock) as reader:
            assert int(by_tag(reader.session.read(0.0))["v"].quality[0]) == BAD
            clock.advance(19.0)
            assert reader.session.read(0.0) == []
        with Reader(own, ["v"], clock) as reader:
            assert reader.session.read(0.0) == []
            assert len(server.requests) == 1
            server.pages["/values"] = document({"v": 1})
            clock.advance(2.0)
            assert plain(by_tag(reader.session.read(0.0))) == {"v": [1.0]}

    def test_retry_after_may_be_a_date(self, server: Server) -> None:
        """As RFC 9110 writes dates; nonsense is no wish."""
        clock = ManualClock(START)
        until = dt.datetime(2024, 1, 1, 0, 1, 0, tzinfo=dt.UTC)
        endless = f"Mon, 01 Jan 2024 00:00:00 +{'9' * 20}"
        wishes = ((format_datetime(until, usegmt=True), 1), ("soon", 2), ("", 2), (endless, 2))
        for told, asked in wishes:
            server.requests.clear()
            server.pages["/values"] = lambda _q, _h, told=told: (503, {"Retry_After": told}, b"")  # type: ignore[misc]
            with Reader(options(server, interval_seconds=1.0), ["v"], clock) as reader:
                reader.session.read(0.0)
                clock.advance(30.0)
                reader.session.read(0.0)
            assert len(server.requests) == asked

    def test_unchanged_answers_are_not_sent_again(self, server: Server) -> None:
        """The value still holds: it comes again with the time at which that was said."""

        def page(_query: Mapping[str, str], headers: Mapping[str, str]) -> Reply:
            if headers.get("if-none-match") == '"7"':
                return 304, {"ETag": '"7"'}, b""
            return 200, {"ETag": '"7"'}, b'{"v": 5}'

        server.pages["/values"] = page
        with Reader(options(server), ["v"]) as reader:
            first, second = reader.next()["v"], reader.next()["v"]
        assert (first.values[0], second.values[0]) == (5.0, 5.0)
        assert second.times_ns[0] > first.times_ns[0]
        assert [headers.get("if-none-match") for _, headers in server.requests] == [None, '"7"']

    def test_redirections_within_the_server(self, server: Server) -> None:
        """Are followed, a few times."""
        server.pages["/values"] = lambda _q, _h: (302, {"Location": "/new"}, b"")
        server.pages["/new"] = document({"v": 1})
        server.pages["/round"] = lambda _q, _h: (301, {"Location": "/round"}, b"")
        with Reader(options(server), ["v"]) as reader:
            assert plain(reader.next()) == {"v": [1.0]}
        with Reader(options(server, "round"), ["v"]) as reader:
            reader.next()
            assert "leads on more than 3 times" in reader.session.problems["v"]

    @pytest.mark.parametrize(
        "target", ["http://127.0.0.1:1/x", "https://{host}/x", "//example.invalid/x", "ftp://h/x"]
    )
    def test_redirections_to_others(self, server: Server, target: str) -> None:
        """Are not followed: neither questions nor passwords leave the server that was named."""
        there = target.replace("{host}", f"{HOST}:{server.port}")
        server.pages["/values"] = lambda _q, _h: (302, {"Location": there}, b"")
        with Reader(options(server), ["v"]) as reader:
            assert int(reader.next()["v"].quality[0]) == BAD
            assert "another server" in reader.session.problems["v"]
        assert len(server.requests) == 1

    @pytest.mark.parametrize("target", ["http://[x", "//[", "http://h:no/x", "http://[::1"])
    def test_redirections_to_nowhere(self, server: Server, target: str) -> None:
        """What is no URL is told as any other redirection; the session lives."""
        server.pages["/values"] = lambda _q, _h: (302, {"Location": target}, b"")
        with Reader(options(server), ["v"]) as reader:
            assert int(reader.next()["v"].quality[0]) == BAD
            assert "another server" in reader.session.problems["v"]
            server.pages["/values"] = document({"v": 1})
            assert plain(reader.next()) == {"v": [1.0]}

    def test_what_is_told_has_no_secret_of_the_url(self, server: Server) -> None:
        """Some servers want theirs in the query; neither status nor log repeat it."""
        own = options(server, "missing?site=7&token=s3cret")
        with Reader(own, ["v"]) as reader:
            reader.next()
            told = reader.session.problems["v"]
        assert f"{server.url}missing?... is answered with 404" in told
        assert "s3cret" not in told

    def test_garbage_is_counted_and_bad(self, server: Server) -> None:
        """HTML, broken JSON, JSON without the list: the session lives."""
        own = options(server, records="rows", time_path="t")
        with Reader(own, ["v"]) as reader:
            reader.next()
            for body in (b"<html>", b'{"rows": 3}', b"{}", b"[" * 100_000):
                server.pages["/values"] = document(body)
                assert int(reader.next()["v"].quality[0]) == BAD
            assert reader.session.counts["garbage"] == 4
            server.pages["/values"] = document({"rows": [{"t": 1, "v": 1}]})
            assert plain(reader.next()) == {"v": [1.0]}

    def test_compressed_answers_are_garbage(self, server: Server) -> None:
        """Nobody asked for them, and they could unpack to anything."""
        body = gzip.compress(b'{"v": 1}')
        server.pages["/values"] = document(body, Content_Encoding="gzip")
        with Reader(options(server), ["v"]) as reader:
            reader.next()
            assert "compressed" in reader.session.problems["v"]

    def test_huge_bodies_are_not_read(self, server: Server) -> None:
        """Neither announced nor endless ones."""
        own = options(server, largest_bytes=1000)
        server.pages["/values"] = document(b"1" * 1001)
        with Reader(own, ["$"]) as reader:
            reader.next()
            assert "more than 1000 bytes" in reader.session.problems["$"]
            server.raw = [b"HTTP/1.1 200 OK\r\n\r\n", *[b"1" * 600] * 50]
            server.seconds = 0.0
            reader.next()
            server.raw = None
            server.pages["/values"] = document(b"12")
            assert plain(reader.next()) == {"$": [12.0]}
            assert reader.session.counts["too large"] == 2


class TestConnection:
    def test_it_is_kept(self, server: Server) -> None:
        """Ten questions, one connection."""
        server.pages["/values"] = document({"v": 1})
        with Reader(options(server), ["v"]) as reader:
            for _ in range(10):
                reader.next()
        assert (server.connections, len(server.requests)) == (1, 10)

    def test_a_server_may_close_it_between_questions(self, server: Server) -> None:
        """It is made anew without a loss."""
        server.pages["/values"] = document({"v": 1}, Connection="close")
        with Reader(options(server), ["v"]) as reader:
            for _ in range(3):
                assert plain(reader.next()) == {"v": [1.0]}
            server.pages["/values"] = document({"v": 1})
            reader.next()
            server.cut()
            assert plain(reader.next()) == {"v": [1.0]}

    def test_stop_and_restart(self, server: Server) -> None:
        """A loss ends the session at once; a new one works again."""
        server.pages["/values"] = document({"v": 1})
        with Reader(options(server), ["v"]) as reader:
            reader.next()
            server.stop()
            with pytest.raises(SourceError, match=f"{HOST}:{server.port}"):
                reader.next()
        with pytest.raises(SourceError, match=rf"source 'line': {HOST}:{server.port}: .*refused"):
            Reader(options(server), ["v"])
        server.start()
        with Reader(options(server), ["v"]) as reader:
            assert plain(reader.next()) == {"v": [1.0]}

    @pytest.mark.parametrize(
        ("head", "piece"),
        [
            (b"", b""),
            (b"", b"H"),
            (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"1"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
        ],
    )
    def test_hangs_and_trickles_have_an_end(
        self, server: Server, head: bytes, piece: bytes
    ) -> None:
        """One deadline for the whole answer, of which more comes for ever."""
        server.raw = chain([head], repeat(piece))
        server.seconds = 0.01
        with pytest.raises(SourceError, match=r"no answer within 0.3 s|answers no HTTP"):
            Reader(options(server, timeout_seconds=0.3), ["v"])

    @pytest.mark.parametrize(
        "raw",
        [
            b"garbage\r\n\r\n",
            b"HTTP/1.1 abc\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200,
            b"\x00" * 100,
        ],
    )
    def test_what_is_no_http_is_a_source_error(self, server: Server, raw: bytes) -> None:
        """Whatever the library makes of it."""
        server.raw, server.seconds = [raw], 0.0
        with pytest.raises(SourceError, match=f"{HOST}:{server.port}"):
            Reader(options(server), ["v"])

    def test_nobody_accepts(self) -> None:
        """A port whose queue is full: refused or unanswered, in time, with host and port."""
        with socket.socket() as deaf:
            deaf.bind((HOST, 0))
            deaf.listen(0)
            port = deaf.getsockname()[1]
            own = RestOptions(name="line", url=f"http://{HOST}:{port}/", timeout_seconds=0.3)
            with pytest.raises(SourceError, match=f"{HOST}:{port}: no answer within 0.3 s"):
                Reader(own, ["v"])

    def test_close_leaves_nothing_behind(self, server: Server) -> None:
        """Neither a thread nor a connection, also after a hang."""
        server.pages["/values"] = document({"v": 1})
        threads = threading.active_count()
        with Reader(options(server, timeout_seconds=0.2), ["v"]) as reader:
            reader.next()
            server.hang()
            with pytest.raises(SourceError):
                reader.next()
        server.raw = None
        server.stop()
        assert threading.active_count() < threads + 1


class TestSecurity:
    def test_secrets_come_from_files(self, server: Server, tmp_path: Path) -> None:
        """Password as RFC 7617, token as RFC 6750 or in a field of its own; plain fields beside."""
        server.pages["/values"] = document({"v": 1})
        (tmp_path / "secret").write_text("Sesam ö\n")
        (tmp_path / "token").write_text("abc123\n")
        secret, token = str(tmp_path / "secret"), str(tmp_path / "token")
        for changes in (
            {"user": "line", "password_file": secret, "headers": {"X-Line": "7"}},
            {"token_file": token},
            {"token_file": token, "token_header": "X-API-Key"},
        ):
            with Reader(options(server, **changes), ["v"]) as reader:
                reader.next()
        sent = [headers for _, headers in server.requests]
        assert sent[0]["authorization"] == "Basic bGluZTpTZXNhbSDDtg=="
        assert sent[0]["x-line"] == "7"
        assert sent[1]["authorization"] == "Bearer abc123"
        assert (sent[2]["x-api-key"], "authorization" in sent[2]) == ("abc123", False)

    @pytest.mark.parametrize("content", [b"", b"two\nlines", b"\xff", None])
    def test_files_without_a_secret_are_named(
        self, server: Server, tmp_path: Path, content: bytes | None
    ) -> None:
        """And not what is in them."""
        path = tmp_path / "token"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"`token_file` .*token") as caught:
            Reader(options(server, token_file=str(path)), ["v"])
        assert "lines" not in str(caught.value)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"url": "ftp://h/"}, "not like http"),
            ({"url": "h:80"}, "not like http"),
            ({"url": "http://h:x/"}, "`url`"),
            ({"url": "http://me:secret@h/"}, "names a user"),
            ({"url": "http://h/a b"}, "%xx"),
            ({"url": "http://h/ö"}, "%xx"),
            ({"url": "http://h/{since}"}, "needs a `time_path`"),
            ({"records": "a"}, "needs format"),
            ({"records": "a", "time_path": "@.t"}, "begins in a record"),
            ({"records": "a..b", "time_path": "t"}, "`records`: path"),
            ({"time_path": "a["}, "`time_path`: path"),
            ({"headers": {"X-API-Key": "1"}}, "write `token_file`"),
            ({"headers": {"Cookie": "1"}}, "write `token_file`"),
            ({"headers": {"A B": "1"}}, "no header field"),
            ({"headers": {"A": "1\r\nB: 2"}}, "no header field"),
            ({"user": "a"}, "go together"),
            ({"user": "a:b", "password_file": "x"}, "colon"),
            ({"certificate_file": "a"}, "go together"),
            ({"token_file": "t", "url": "http://plant/"}, "use https"),
            ({"user": "a", "password_file": "x", "token_file": "t"}, "both be sent"),
            ({"token_header": "a b"}, "no header field"),
            ({"format": "csv", "decimal": ","}, "`decimal` and `delimiter`"),
        ],
    )
    def test_options_that_cannot_be(self, changes: dict[str, Any], message: str) -> None:
        """Refused with the configuration, in words that name the field."""
        raw = {"kind": "rest", "name": "x", **changes}
        with pytest.raises(msgspec.ValidationError, match=message):
            msgspec.convert(raw, RestOptions)

    def test_tags_that_cannot_be(self, server: Server) -> None:
        """No path, or a page of another server."""
        for tag, message in (("a..b", "cannot be read"), ("http://h/x#a", "another server")):
            with pytest.raises(ConfigError, match=message):
                Reader(options(server), [tag])
        with pytest.raises(ConfigError, match="65 pages"):
            Reader(options(server), [f"p{i}#a" for i in range(65)])

    def test_tls(self, tmp_path: Path) -> None:
        """Only a server whose certificate the named ones have signed is believed."""
        own, other = certificate(tmp_path, "own"), certificate(tmp_path, "other")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*own)
        server = Server(context=context)
        server.pages["/values"] = document({"v": 1})
        server.start()
        try:
            with Reader(options(server, ca_file=str(own[0])), ["v"]) as reader:
                assert plain(reader.next()) == {"v": [1.0]}
                assert plain(reader.next()) == {"v": [1.0]}
            for ca_file in (str(other[0]), ""):
                with pytest.raises(SourceError, match=r"TLS: .*certificate"):
                    Reader(options(server, ca_file=ca_file), ["v"])
            with pytest.raises(ConfigError, match="gone"):
                Reader(options(server, ca_file=str(tmp_path / "gone")), ["v"])
        finally:
            server.stop()


class TestDiscovery:
    def test_json(self, server: Server) -> None:
        """Every number and text, under the path that finds it."""
        server.pages["/values"] = document(
            {"line": {"speed": 7, "state": "on"}, "sensors": [{"name": "t1", "value": 20.5}]}
        )
        found = {each.tag: each for each in LIVE.discover(options(server), SystemClock())}  # type: ignore[misc, union-attr]
        assert found["line.speed"].value == "7"
        assert found["line.state"].type == "text"
        assert found["sensors[?@.name=='t1'].value"].value == "20.5"
        with Reader(options(server), list(found)) as reader:
            assert reader.session.problems == {}

    def test_records_csv_and_other_pages(self, server: Server) -> None:
        """Of records the last one, of CSV the columns; pages that tags name are listed too."""
        server.pages["/values"] = document({"rows": [{"t": 1, "v": 2}]})
        server.pages["/more"] = document({"rows": [{"t": 1, "w": 3}]})
        own = options(server, records="rows", time_path="t", tags={"w": "/more#w"})
        listed = [each.tag for each in LIVE.discover(own, SystemClock())]  # type: ignore[misc, union-attr]
        assert sorted(listed) == [f"{server.url}more#t", f"{server.url}more#w", "t", "v"]
        server.pages["/values"] = document(b"a,b\n1,2\n")
        own = options(server, format="csv")
        assert [each.tag for each in LIVE.discover(own, SystemClock())] == ["a", "b"]  # type: ignore[misc, union-attr]

    def test_what_cannot_be_listed(self, server: Server) -> None:
        """Another status, garbage, too much: an error that says so."""
        for page, message in (
            (document(b"<html>"), "no JSON"),
            (document(b"1" * 2000), "more than 1000 bytes"),
            (lambda _q, _h: (500, {}, b""), "answered with 500"),
        ):
            server.pages["/values"] = page
            with pytest.raises(SourceError, match=message):
                list(LIVE.discover(options(server, largest_bytes=1000), SystemClock()))  # type: ignore[misc, union-attr]


class TestConfiguration:
    def test_files_are_beside_the_configuration(self, tmp_path: Path) -> None:
        """All of them, whatever they hold."""
        path = tmp_path / "agent.toml"
        path.write_text(
            '[agent]\nid = "a"\n[[sources]]\nkind = "rest"\nname = "x"\nurl = "https://plant/"\n'
            'token_file = "token"\nca_file = "/etc/ca.pem"\n'
        )
        (source,) = load(path).sources
        assert isinstance(source, RestOptions)
        assert (source.token_file, source.ca_file) == (str(tmp_path / "token"), "/etc/ca.pem")
        assert source.position_file == ""

    def test_a_free_port_refuses(self) -> None:
        """The error names source, host and port, and comes at once."""
        port = free_port()
        with pytest.raises(SourceError, match=f"'x': 127.0.0.1:{port}"):
            Reader(RestOptions(name="x", url=f"http://127.0.0.1:{port}/"), ["v"])


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Files of a certificate for the loopback that signs itself, and of its key."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    named = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    host = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))])
    made = (
        x509.CertificateBuilder()
        .subject_name(named)
        .issuer_name(named)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(host, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / f"{name}.pem", folder / f"{name}.key"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files

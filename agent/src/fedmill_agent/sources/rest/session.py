# SPDX-License-Identifier: Apache-2.0
"""A web server, asked again and again."""

import math
from collections import Counter, deque
from collections.abc import Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime

import msgspec

from fedmill_agent.sources.json_path import Broken, Nowhere
from fedmill_agent.sources.live import Delivered
from fedmill_agent.sources.pace import Pace
from fedmill_agent.sources.position import Position
from fedmill_agent.sources.rest.answers import Format
from fedmill_agent.sources.rest.client import Answer, Client, TooLarge
from fedmill_agent.sources.rest.options import SINCE, RestOptions
from fedmill_agent.sources.rest.pages import Page, Reached
from fedmill_shared.clock import Clock
from fedmill_shared.errors import SourceError

MOST_PAGES = 1000
"""Questions in a row for records that were missed, before the others get their turn."""
LONGEST_WAIT = 3600.0
"""Seconds; a server that wishes to be left alone for longer is asked then."""
_PATIENT = frozenset({429, 503})
_REFUSED = frozenset({401, 403, 407})


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """How far the pages of a server were read."""

    of: str
    reached: dict[str, Reached] = {}
    wait_until_ns: int = 0


class RestSession:
    """One connection to a server; the pages are asked in turn, one for each ``read``."""

    def __init__(
        self,
        options: RestOptions,
        client: Client,
        pages: Sequence[Page],
        reader: Format,
        *,
        position: Position[Place],
        clock: Clock,
    ) -> None:
        """Go on where ``position`` says; nothing is asked yet."""
        self.counts: Counter[str] = Counter()
        self.problems: dict[str, str] = {}
        self._options = options
        self._client = client
        self._pages = pages
        self._reader = reader
        self._position = position
        self._clock = clock
        self._pace = Pace(options.interval_seconds, clock, self.counts)
        self._waiting: deque[tuple[Page, int]] = deque()
        self._delivered: list[Delivered] = []
        self._place = position.load(options.url) or Place(of=options.url)
        for page in pages:
            page.reached = self._place.reached.get(page.url)
        left = (self._place.wait_until_ns - clock.now_ns()) / 1e9
        self._held_off = 0 < left <= LONGEST_WAIT
        if self._held_off:
            self._pace.hold_off(left)

    def begin(self) -> None:
        """Ask the first page, whose answer the next ``read`` hands over.

        Raises:
            SourceError: the server cannot be reached, or refuses us.
        """
        if not self._held_off and self._pages:
            self._delivered = self._next(0.0)

    def read(self, timeout: float) -> Sequence[Delivered]:
        """What one page tells now, once it is time to ask.

        Raises:
            SourceError: the server is lost, or refuses us.
        """
        if not self._position.take():
            self.counts["position not kept"] += 1
        delivered, self._delivered = self._delivered or self._next(timeout), []
        self._position.reach(self._place)
        return delivered

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
        if not self._position.close():
            self.counts["position not kept"] += 1

    def _next(self, timeout: float) -> list[Delivered]:
        if not self._waiting:
            if not self._pace.due(timeout):
                return []
            self._waiting.extend((page, 0) for page in self._pages)
        page, asked = self._waiting.popleft()
        now_ns = self._clock.now_ns()
        try:
            answer = self._client.get(page.asked(self._options, now_ns), page.etag)
        except TooLarge:
            self.counts["too large"] += 1
            most = self._options.largest_bytes
            return self._nothing(page, f"the answer has more than {most} bytes (`largest_bytes`)")
        before = page.reached
        found = self._understood(page, answer)
        onward = before is None or (page.reached and page.reached.time_ns > before.time_ns)
        if SINCE in page.url and found and onward and asked < MOST_PAGES:
            self._waiting.appendleft((page, asked + 1))
        return found

    def _understood(self, page: Page, answer: Answer) -> list[Delivered]:
        if answer.status in _REFUSED:
            raise SourceError(
                f"{self._client.place}: refuses us: {answer.status} {answer.reason}",
                remedy="check `user` and `password_file`, or `token_file`, and our rights there",
            )
        if answer.status == 200:
            page.body, page.etag = _kept(answer, page)
        elif answer.status != 304 or not page.body:
            return self._refused(page, answer)
        try:
            return self._readings(page, self._reader.records(_body(answer, page)))
        except (Broken, Nowhere) as error:
            self.counts["garbage"] += 1
            return self._nothing(page, f"the answer cannot be used: {error}")

    def _readings(self, page: Page, records: Sequence[object]) -> list[Delivered]:
        options = self._options
        if options.time_path and (options.records or options.format == "csv"):
            records = page.fresh(records, options, self._reader, self.counts)
            self._reach(page)
        else:
            records = records[-1:]
        if not records:
            return []
        now_ns = self._clock.now_ns()
        delivered, problems, wrong = page.readings(records, options, self._reader, now_ns)
        self.counts["type"] += wrong
        for tag in page.tags:
            self.problems.pop(tag, None)
        self.problems |= problems
        return list(delivered)

    def _refused(self, page: Page, answer: Answer) -> list[Delivered]:
        """Another status than what was hoped for: counted, told, and every value bad."""
        self.counts[f"status {answer.status}"] += 1
        if answer.status in _PATIENT:
            self._wait(answer.headers.get("retry-after", ""))
        told = answer.told or f"is answered with {answer.status} {answer.reason}"
        why = f"{page.shown} {told}: check the URL, or ask who runs the server"
        return self._nothing(page, why)

    def _nothing(self, page: Page, why: str) -> list[Delivered]:
        self.problems |= dict.fromkeys(page.tags, why)
        return list(page.bad(self._clock.now_ns()))

    def _wait(self, told: str) -> None:
        """Ask nothing before the server wishes it, also after a restart."""
        now_ns = self._clock.now_ns()
        seconds = min(_seconds(told, now_ns), LONGEST_WAIT)
        if seconds > 0:
            self._waiting.clear()
            self._pace.hold_off(seconds)
            self._place = msgspec.structs.replace(
                self._place, wait_until_ns=now_ns + round(1e9 * seconds)
            )

    def _reach(self, page: Page) -> None:
        if page.reached is not None and self._place.reached.get(page.url) != page.reached:
            reached = {**self._place.reached, page.url: page.reached}
            self._place = Place(of=self._options.url, reached=reached)


def _kept(answer: Answer, page: Page) -> tuple[bytes, dict[str, str]]:
    """Body and headers for asking whether it is still so; nothing where the URL changes."""
    asks = {"etag": "If-None-Match", "last-modified": "If-Modified-Since"}
    found = {asks[name]: answer.headers[name] for name in asks if name in answer.headers}
    return (answer.body, found) if found and SINCE not in page.url else (b"", {})


def _body(answer: Answer, page: Page) -> bytes:
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise Broken("it is compressed, which was not asked for")
    return answer.body or page.body


def _seconds(told: str, now_ns: int) -> float:
    """``Retry-After`` (RFC 9110, 10.2.3): seconds, or a date."""
    if told.isdecimal() and len(told) < 10:
        return float(told)
    try:
        moment = parsedate_to_datetime(told)
    except (ValueError, OverflowError):
        return 0.0
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, math.ceil(aware.timestamp() - now_ns / 1e9))

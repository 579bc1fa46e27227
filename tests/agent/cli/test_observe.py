# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterator

import numpy as np
import pytest
from msgspec.structs import replace
from tests.agent.sources.live.scripted import SECOND, Script, ScriptedOptions, block

from fedmill_agent.cli import check_live as command
from fedmill_agent.cli import observe
from fedmill_agent.sources.live import BAD, STALE, Found, Live
from fedmill_agent.sources.modbus.options import ModbusOptions
from fedmill_coordinator.demo.broker import free_port
from fedmill_shared.clock import ManualClock, SystemClock
from fedmill_shared.errors import SchemaError, SourceError
from fedmill_shared.job import Job, Labels, Signal, Task

OPTIONS = ScriptedOptions(name="line", tags={"speed": "n"}, units={"speed": "rpm"})


class Ticking(ManualClock):
    """Moves on by itself: waiting takes no time."""

    def monotonic(self) -> float:
        """A tenth of a second later than the last time."""
        self.advance(0.1)
        return super().monotonic()


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """The source that is looked at."""
    made = Script()
    for module in (observe, command):
        monkeypatch.setattr(module, "live_of", lambda _: made.live)
    return made


def prepared(script: Script, *blocks: object) -> None:
    """The next session brings ``blocks``, each at one read."""
    opened = script._open

    def with_blocks(*arguments: object) -> object:
        session = opened(*arguments)  # type: ignore[arg-type]
        waiting = list(blocks)
        session.read = lambda _: [waiting.pop(0)] if waiting else []  # type: ignore[method-assign,assign,return-value]
        return session

    script._open = with_blocks  # type: ignore[method-assign,assign]


class TestLook:
    def test_values_rate_and_quality(self, script: Script) -> None:
        """Good values count for the extent, all of them for the rate."""
        bad = block("n", 3 * SECOND, [999.0, np.inf], quality=BAD)
        old = block("n", 5 * SECOND, [7.0], quality=STALE)
        prepared(script, block("n", SECOND, [1.0, 3.0]), bad, old)
        seen = observe.look(OPTIONS, ["n"], Ticking()).seen["n"]
        assert (seen.values, seen.good, seen.stale, seen.low, seen.high) == (5, 2, 1, 1.0, 3.0)
        assert seen.rate_hz == 1.0
        assert seen.last == 3.0

    def test_it_ends_when_enough_has_come(self, script: Script) -> None:
        """Nobody waits for eight seconds where five batches are there at once."""
        prepared(script, *(block("n", i * SECOND, [1.0]) for i in range(9)))
        assert observe.look(OPTIONS, ["n"], Ticking()).seen["n"].batches == observe.ENOUGH

    def test_it_ends_although_nothing_comes(self, script: Script) -> None:
        """After some seconds."""
        prepared(script)
        found = observe.look(OPTIONS, ["n"], Ticking())
        assert found.seen["n"].values == 0
        assert observe.LOOK_SECONDS <= found.seconds < observe.LOOK_SECONDS + 2
        assert script.sessions[0].closed.is_set()

    def test_a_source_that_knows_orders_of_bytes_is_asked(self, script: Script) -> None:
        """About tags whose bounds are known."""
        prepared(script, block("n", SECOND, [1.0]))
        opened = script._open

        def suspecting(*arguments: object) -> object:
            session = opened(*arguments)  # type: ignore[arg-type]
            session.suspects = lambda tag, low, high: [(f"{tag} {low:g} {high:g}", 2.0)]  # type: ignore[attr-defined]
            return session

        script._open = suspecting  # type: ignore[method-assign,assign]
        found = observe.look(OPTIONS, ["n", "m"], Ticking(), plausible={"n": (1.0, 3.0)})
        assert found.suspects == {"n": [("n 1 3", 2.0)]}

    def test_other_sources_suspect_nothing(self, script: Script) -> None:
        """Most protocols say how their bytes come."""
        prepared(script)
        assert not observe.look(OPTIONS, ["n"], Ticking(), plausible={"n": (1.0, 3.0)}).suspects

    def test_two_tags_share_a_session(self, script: Script) -> None:
        """A tag that is asked for twice is asked once."""
        prepared(script, block("n", SECOND, [1.0]))
        observe.look(OPTIONS, ["n", "n", "m"], Ticking())
        assert script.sessions[0].tags == ("n", "m")


class TestCheckLive:
    def test_a_good_source(self, script: Script, capsys: pytest.CaptureFixture[str]) -> None:
        """Its signals with value, unit, rate and quality."""
        prepared(script, *(block("n", i * SECOND, [1500.0]) for i in range(9)))
        command.check_live(OPTIONS, None, Ticking())
        output = capsys.readouterr().out
        assert "source line: connected" in output
        assert "speed                tag n                1500 rpm; 1 Hz, 100 % good" in output

    def test_what_is_wrong_is_listed_and_ends_with_an_error(
        self, script: Script, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """All of it is printed; the error names the first."""
        script.problems = {"n": "no such node"}
        prepared(script)
        options = ScriptedOptions(name="line", tags={"speed": "n", "load": "m"})
        with pytest.raises(SourceError, match="'n': no such node, and 1 more"):
            command.check_live(options, None, Ticking())
        assert capsys.readouterr().out.count("  wrong: ") == 2

    def test_a_run_tag_that_is_not_there(
        self, script: Script, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """It is read too, and its problem told; a device's words do not steer the terminal."""
        script.problems = {"part": "no such\x1b[2J node"}
        prepared(script, *(block("n", i * SECOND, [1.0]) for i in range(9)))
        options = ScriptedOptions(name="line", tags={"speed": "n"}, run_tag="part")
        with pytest.raises(SourceError, match=r"run_tag 'part': no such\\x1b\[2J node"):
            command.check_live(options, None, Ticking())
        assert script.sessions[0].tags == ("n", "part")
        assert "\x1b" not in capsys.readouterr().out

    def test_unmapped_without_a_job(
        self, script: Script, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """There is nothing to read; it says how to go on."""
        command.check_live(ScriptedOptions(name="line"), None, Ticking())
        assert "give --job" in capsys.readouterr().out
        assert not script.attempts

    def test_unmapped_it_is_reached_all_the_same(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What can list its tags is asked how many there are, so a wrong address is told."""

        def listed(*_: object) -> Iterator[Found]:
            yield from (Found("a"), Found("b"))

        kind = Live(lambda *_: None, listed)  # type: ignore[arg-type,return-value]
        monkeypatch.setattr(command, "live_of", lambda _: kind)
        command.check_live(ScriptedOptions(name="line"), None, Ticking())
        assert "source line: connected, 2 tags; maps no tags, give" in capsys.readouterr().out

    def test_an_address_at_which_nothing_is(self) -> None:
        """Is an error that names the source, whether it maps registers or none at all."""
        declared = ModbusOptions(name="press", port=free_port(), registers={"t": "holding 1"})
        for options in (declared, replace(declared, registers={}, scan="holding 0-9")):
            with pytest.raises(SourceError, match=r"^source 'press': 127\.0\.0\.1:.*refused"):
                command.check_live(options, None, SystemClock())

    def test_an_unknown_unit_without_a_job(self, script: Script) -> None:
        """No job could use it: the source and the signal are named before anything is opened."""
        options = ScriptedOptions(name="line", tags={"speed": "n"}, units={"speed": "inchs"})
        with pytest.raises(SchemaError, match="source 'line': signal 'speed': unit \"inchs\" is"):
            command.check_live(options, None, Ticking())
        assert not script.attempts

    def test_long_tags_leave_values_below_each_other(
        self, script: Script, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The longest sets the width; a unit of 1 is none."""
        long = "ns=2;s=press.force"
        prepared(script, *(block(tag, i * SECOND, [5.0]) for tag in (long, "n") for i in range(9)))
        options = ScriptedOptions(name="line", tags={"a": long, "b": "n"}, units={"a": "1"})
        command.check_live(options, None, Ticking())
        first, second = capsys.readouterr().out.splitlines()[1:3]
        assert first.endswith("tag ns=2;s=press.force 5; 1 Hz, 100 % good")
        assert first.index("5; 1 Hz") == second.index("5; 1 Hz")

    def test_a_job_that_does_not_fit_is_told_before_anything_is_opened(
        self, script: Script
    ) -> None:
        """Units that cannot be converted, and rates that are no multiple."""
        job = Job(
            job=Task(name="press"),
            signals=[Signal(name="speed", unit="bar")],
            labels=Labels(classes=["a", "b"]),
        )
        with pytest.raises(SchemaError, match="does not convert"):
            command.check_live(OPTIONS, job, Ticking())
        slow = ScriptedOptions(name="line", rates={"speed": 1.5})
        with pytest.raises(SchemaError, match=r"comes at 1\.5 Hz"):
            command.check_live(slow, job, Ticking())
        assert not script.attempts

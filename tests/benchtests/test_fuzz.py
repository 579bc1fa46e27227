# SPDX-License-Identifier: Apache-2.0
"""The fuzzer notices what it is there to notice, and tells how to see it again."""

import argparse
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.bench import fuzz
from tests.bench.decoders import Decoder

from fedmill_shared.errors import FrameError, TrainerError, UsageError


def options(**changes: object) -> argparse.Namespace:
    """Options of a short run in one process."""
    settings = {"inputs": 40, "seed": 3, "processes": 1, "decoder": "", "hex": ""}
    return argparse.Namespace(**(settings | changes))


@pytest.fixture
def feed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., fuzz.Tally]]:
    """Feed one input to a function, under the limits of the bench."""
    monkeypatch.setattr(fuzz, "SAMPLED", 1 << 30)

    def once(decode: Callable[[bytes], object], *, traced: bool = False) -> fuzz.Tally:
        run = fuzz.Run()
        if traced:
            monkeypatch.setattr(fuzz, "SAMPLED", 1)
        with fuzz._hang_is_noticed():
            run.feed(Decoder("it", decode, (b"",)), b"\x01\xff")
        return run.tally

    return once


def spin(_data: bytes) -> None:
    """Never come back."""
    while True:
        pass


class TestRun:
    def test_a_refusal_is_no_finding(self, feed: Callable[..., fuzz.Tally]) -> None:
        """Ours to raise, whatever the class."""

        def refuse(_data: bytes) -> None:
            raise FrameError("foreign")

        tally = feed(refuse)
        assert (tally.crashes, tally.findings, tally.accepted) == (0, [], {})
        assert tally.counts == {"it": 1}

    def test_what_is_taken_is_counted(self, feed: Callable[..., fuzz.Tally]) -> None:
        """The share that gets through tells how deep the fuzzer reaches."""
        assert feed(len).accepted == {"it": 1}

    @pytest.mark.parametrize("error", [ValueError, MemoryError, RecursionError, AssertionError])
    def test_another_error_is_a_finding(
        self, feed: Callable[..., fuzz.Tally], error: type[Exception]
    ) -> None:
        """With the input in hex."""

        def crash(_data: bytes) -> None:
            raise error("no")

        tally = feed(crash)
        assert tally.crashes == 1
        assert tally.findings == [fuzz.Finding("it", error.__name__, "no", "01ff")]

    def test_a_hang_is_a_finding(
        self, feed: Callable[..., fuzz.Tally], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An endless loop is broken, and the handler of the signal is the old one again."""
        monkeypatch.setattr(fuzz, "HANG_SECONDS", 0.05)
        before = signal.getsignal(signal.SIGVTALRM)
        tally = feed(spin)
        assert [finding.kind for finding in tally.findings] == ["Hang"]
        assert signal.getsignal(signal.SIGVTALRM) == before

    def test_slowness_is_a_finding(
        self, feed: Callable[..., fuzz.Tally], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Measured in processor time: another program's load is nobody's fault."""
        monkeypatch.setattr(fuzz, "SECONDS_LIMIT", 0.0)
        assert [finding.kind for finding in feed(bytes.hex).findings] == ["Slow"]

    def test_memory_is_a_finding(
        self, feed: Callable[..., fuzz.Tally], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Even where it is given back at once."""
        monkeypatch.setattr(fuzz, "PEAK_LIMIT", 1 << 20)
        tally = feed(lambda _data: len(bytes(1 << 21)), traced=True)
        assert [finding.kind for finding in tally.findings] == ["Memory"]
        assert tally.peak >= 1 << 21

    def test_memory_is_bounded_for_every_input(self) -> None:
        """Also for those that are not traced; the limit is lifted afterwards."""
        before = resource.getrlimit(resource.RLIMIT_AS)
        with fuzz._little_memory(), pytest.raises(MemoryError):
            bytes(1 << 30)
        assert resource.getrlimit(resource.RLIMIT_AS) == before

    def test_the_same_finding_is_told_a_few_times(self) -> None:
        """And counted every time."""
        run = fuzz.Run()

        def crash(_data: bytes) -> None:
            raise ValueError

        with fuzz._hang_is_noticed():
            for number in range(10):
                run.feed(Decoder("it", crash, (b"",)), bytes([number]))
        assert (run.tally.crashes, len(run.tally.findings)) == (10, fuzz.TOLD)


class TestFigures:
    def test_processes_are_added_up(self) -> None:
        """Counts are summed, extremes are the largest."""
        tallies = [
            fuzz.Tally(counts={"a": 30, "b": 10}, accepted={"a": 3}, slowest=0.1, peak=7, growth=5),
            fuzz.Tally(counts={"a": 10}, accepted={"a": 1}, crashes=2, slowest=1.5, peak=9),
        ]
        figures = {each.name: each for each in fuzz.figures_of(tallies, 2.0)}
        assert (figures["inputs"].value, figures["inputs per second"].value) == (50, 25)
        assert (figures["crashes"].value, figures["crashes"].ok) == (2, False)
        assert not figures["slowest input"].ok
        assert (figures["largest peak of one input"].value, figures["growth of the RSS"].ok) == (
            9,
            True,
        )
        assert figures["a: inputs"].value == 40
        assert (figures["a: accepted"].value, figures["b: accepted"].value) == (0.1, 0)

    def test_a_short_run(self) -> None:
        """In a process of its own; the inputs asked for, and those of the warm-up."""
        figures = {each.name: each for each in fuzz.run(options(decoder="topic"))}
        assert figures["inputs"].value == figures["topic: inputs"].value == 40 + fuzz.WARM_UP
        assert figures["crashes"].ok

    def test_a_finding_is_told_with_the_command_that_repeats_it(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """On standard error, beside the figures."""
        finding = fuzz.Finding("frame x", "ValueError", "no", "00ff")
        tally = fuzz.Tally(counts={"frame x": 1}, crashes=1, findings=[finding])
        monkeypatch.setattr(fuzz, "_shared", lambda _options: [tally])
        fuzz.run(options())
        assert "ValueError: no; --decoder 'frame x' --hex 00ff" in capsys.readouterr().err


class TestDeath:
    def test_the_input_it_died_of_is_told(self, tmp_path: Path) -> None:
        """A decoder in C may take the process with it; a longer input before it does not show."""
        output = tmp_path / "share-0.json"
        output.with_suffix(".log").write_text("Fatal Python error: Segmentation fault")
        with output.with_suffix(".crumb").open("wb") as crumb:
            run = fuzz.Run(crumb=crumb.fileno())
            with fuzz._hang_is_noticed():
                run.feed(Decoder("longer", len, (b"",)), b"before it")
                run.feed(Decoder("it", len, (b"",)), b"\n\xff")
        tally = fuzz.result(-11, output)
        (finding,) = tally.findings
        assert (finding.decoder, finding.kind, finding.hex) == ("it", "Exit -11", "0aff")
        assert "Segmentation" in finding.text
        assert tally.crashes == 1

    def test_one_that_never_began_is_an_error(self, tmp_path: Path) -> None:
        """With its last words."""
        output = tmp_path / "share-0.json"
        output.with_suffix(".log").write_text("ModuleNotFoundError: tests")
        with pytest.raises(TrainerError, match="ModuleNotFoundError"):
            fuzz.result(1, output)


class TestOnce:
    def test_a_refusal_is_told(self, capsys: pytest.CaptureFixture[str]) -> None:
        """The finding has been mended."""
        (figure,) = fuzz.run(options(decoder="block", hex="00ff"))
        assert figure.ok
        assert "foreign or truncated" in capsys.readouterr().err

    def test_a_finding_raises(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """With the traceback that leads to the line."""

        @contextmanager
        def table(_only: str, _place: object = None) -> Iterator[list[Decoder]]:
            yield [Decoder("it", lambda data: data[9], (b"",))]

        monkeypatch.setattr(fuzz, "_table", table)
        with pytest.raises(IndexError):
            fuzz.run(options(decoder="it", hex="00"))

    def test_an_unknown_decoder(self) -> None:
        """The names there are."""
        with pytest.raises(UsageError, match="topic"):
            fuzz.run(options(decoder="none", hex="00"))

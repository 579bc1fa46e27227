# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from fedmill_agent.cli import discover, main
from fedmill_agent.sources.live import Found, Live

HOSTILE = Found("ns=2;s=a\x1b[31m", "Double", "1\r\nsource: forged", note="\u202etxt")


def offers(*found: Found) -> Live:
    """A source that lists these tags."""

    def told(*_: object) -> Iterator[Found]:
        yield from found

    return Live(lambda *_: None, told)  # type: ignore[arg-type,return-value]


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A configuration with a live source."""
    made = tmp_path / "agent.toml"
    made.write_text('[agent]\nid = "a"\n[[sources]]\nkind = "host"\nname = "box"\n')
    return str(made)


class TestDiscover:
    def test_texts_of_a_device_do_not_steer_the_terminal(
        self, path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Escapes and line breaks are shown as what they are; JSON has them exactly."""
        monkeypatch.setattr(discover, "live_of", lambda _: offers(HOSTILE))
        assert main(["discover", path]) == 0
        out = capsys.readouterr().out
        assert out.count("\n") == 2
        assert all(line.isprintable() for line in out.splitlines())
        assert r"s=a\x1b[31m" in out
        assert main(["discover", path, "--json"]) == 0
        line = capsys.readouterr().out
        assert msgspec.json.decode(line)["tag"] == HOSTILE.tag
        assert "\x1b" not in line

    def test_only_tags_with_a_text(
        self, path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """In the tag or in what is said of it, in whatever case."""
        listed = offers(Found("Oil.T"), Found("x", note="of the OIL"), Found("y"))
        monkeypatch.setattr(discover, "live_of", lambda _: listed)
        assert main(["discover", path, "--find", "oil"]) == 0
        assert "2 tags with 'oil'" in capsys.readouterr().out

    def test_no_such_source(self, path: str, capsys: pytest.CaptureFixture[str]) -> None:
        """Those that there are, are named."""
        assert main(["discover", path, "--source", "bx"]) == 2
        assert "live sources in it: box" in capsys.readouterr().err

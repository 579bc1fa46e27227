# SPDX-License-Identifier: Apache-2.0
"""TOML files decoded into types."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct

from fedmill_shared.errors import ConfigError
from fedmill_shared.toml import LARGEST_FILE, decode, load


class Base(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    """What every source has."""

    name: Annotated[str, Meta(pattern="^[a-z]{1,8}$", description="Name of the source.")]
    tags: dict[Annotated[str, Meta(min_length=2)], Annotated[str, Meta(min_length=1)]] = {}


class Csv(Base, frozen=True, tag="csv"):
    """A file."""

    columns: Annotated[list[int], Meta(min_length=1)] = msgspec.field(default_factory=lambda: [1])


class Opc(Base, frozen=True, tag="opc"):
    """A server."""

    port: Annotated[int, Meta(ge=1, le=65535)] = 4840
    limits: tuple[int, str] = (1, "a")
    nested: dict[str, dict[str, int]] = {}


class Agent(Struct, frozen=True, forbid_unknown_fields=True):
    """The agent itself."""

    site: str
    rate: Annotated[float, Meta(gt=0.0, description="Samples per second.")] = 1.0
    mode: Literal["live", "replay"] = "live"
    verbose: bool = False
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.site == "mars":
            raise ValueError("nobody works there")


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """A whole file."""

    agent: Agent
    sources: list[Csv | Opc] = []


AGENT = '[agent]\nsite = "north"\n'
SOURCE = AGENT + '[[sources]]\nkind = "opc"\nname = "press"\n'

WRONG = """
AGENT
rate = "abc"
=> 3: agent.rate is "abc": expected a number greater than 0
=> (Samples per second)

AGENT
rate = "12"
=> 3: agent.rate is "12": expected a number greater than 0
=> (write 12 without quotes)

AGENT
rate = -1
=> 3: agent.rate is -1: expected a number greater than 0
=> (Samples per second)

AGENT
rate = nan
=> 3: agent.rate is nan: expected a finite 64-bit number
=> (write an ordinary number)

AGENT
# comment
rate = [[inf]]
=> 4: agent.rate[0][0] is inf: expected a finite 64-bit number
=> (write an ordinary number)

AGENT
threads = 9223372036854775808
=> 3: agent.threads is 9223372036854775808: expected a finite 64-bit number
=> (write an ordinary number)

AGENT
threads = "many"
=> 3: agent.threads is "many": expected an integer

AGENT
mode = "Repaly"
=> 3: agent.mode is "Repaly": expected "live" or "replay"
=> (did you mean "replay"?)

AGENT
mode = "x"
=> 3: agent.mode is "x": expected "live" or "replay"

AGENT
verbose = 1
=> 3: agent.verbose is 1: expected true or false
=> (write true or false, in small letters and without quotes)

AGENT
colour = 3
=> 3: agent.colour is unknown: [agent] has mode, rate, site, threads, verbose
=> (remove it)

AGENT
# comment
rates = 3
=> 4: agent.rates is unknown: [agent] has mode, rate, site, threads, verbose
=> (did you mean rate?)

AGENT
port = 3
=> 3: agent.port is unknown: [agent] has mode, rate, site, threads, verbose
=> (move it below [[sources]] with kind = "opc")

AGENT
sources = []
=> 3: agent.sources is unknown: [agent] has mode, rate, site, threads, verbose
=> (make it a section [[sources]])

AGENT
"a b" = 1
=> 3: agent."a b" is unknown: [agent] has mode, rate, site, threads, verbose
=> (remove it)

# comment
[agent]
rate = 2.0
=> 2: [agent] has no site: expected text
=> (add site = ...)

# nothing
=> 1: the file has no [agent]
=> (add [agent] with site)

agent = 3
=> 1: agent is 3: expected a table

[agent]
site = 3
=> 2: agent.site is 3: expected text
=> (write it in quotes: "3")

[agent]
site = "mars"
=> 1: [agent]: nobody works there

AGENT
[[sources]]
name = "x"
=> 3: [[sources]] has no kind: expected "csv" or "opc"
=> (add kind = ...)

AGENT
[[sources]]
kind = "cvs"
=> 4: sources[0].kind is "cvs": expected "csv" or "opc"
=> (did you mean "csv"?)

AGENT
[[sources]]
kind = "csv"
=> 3: [[sources]] has no name: expected text of 1 to 8 characters: a-z
=> (Name of the source)

AGENT
[sources]
=> 3: sources is a table: expected a list, each a table
=> (write its header in double brackets)

[[agent]]
site = "a"
=> 1: agent is a list of tables: expected a table
=> (write its header in single brackets)

SOURCE
port = 70000
=> 6: sources[0].port is 70000: expected an integer of at least 1 and at most 65535

SOURCE
port = 1.0
=> 6: sources[0].port is 1.0: expected an integer of at least 1 and at most 65535
=> (write 1 without a decimal point)

SOURCE
limits = [1,
  2]
=> 7: sources[0].limits[1] is 2: expected text
=> (write it in quotes: "2")

SOURCE
limits = [1]
=> 6: sources[0].limits is [1]: expected a list of an integer, then text

SOURCE
columns = [1]
=> 6: sources[0].columns is unknown: [[sources]] has kind, limits, name, nested, port, tags
=> (move it below [[sources]] with kind = "csv")

SOURCE
[[sources]]
kind = "csv"
name = "b"
columns = 4
=> 9: sources[1].columns is 4: expected a list of at least 1 items, each an integer
=> (write it in brackets: [4])

SOURCE
[sources.tags]
aa = "x"
bb = ""
cc = ""
=> 8: sources[0].tags.bb is "": expected text of at least 1 characters

SOURCE
[sources.tags]
aa = "x"
b = "y"
=> 8: [sources.tags] has the name "b": expected text of at least 2 characters

SOURCE
[sources.nested]
a = { x = 1 }
b = { y = 1, z = 1.5 }
c = { w = false }
=> 8: sources[0].nested.b.z is 1.5: expected an integer

SOURCE
[sources.nested]
a = { x = 1 }
b = 4
=> 8: sources[0].nested.b is 4: expected a table whose values are each an integer
"""

SYNTAX = [
    (
        "[agent\nsite = 1",
        "1:7: is not TOML: Expected ']' at the end of a table declaration: \"[agent\"",
    ),
    ("[agent]\nsite = north", '2:8: is not TOML: Invalid value: "site = north"'),
    ("[agent]\nsite =", '2: is not TOML: Invalid value: "site ="'),
    ("a = " + "[" * 5000, " brackets are nested too deeply (flatten it)"),
    ("a = " + "9" * 5000, " holds a number with thousands of digits (write an ordinary number)"),
    (".".join("a" * 40) + " = 1", "1: a name has over 32 parts (flatten it)"),
    ("a = 1\n[" + "a." * 100_000 + "b]", "2: a name has over 32 parts (flatten it)"),
    ("a = 1\nb = " + "[" * 40 + "]" * 40, "2: b is nested too deeply (flatten it)"),
    ("a = 1\nb = '\ud800'", "2: holds half a character (retype the line)"),
]


PIECES = [
    *("[agent]", 'site = "a"', "rate = -1", "rate = 1e400", "[agent.x]", "[[sources]]"),
    *('kind = "opc"', "kind = 1", 'name = "a"', 'name = "A"', "[sources.tags]", 'a = "b"'),
    *('ab = ""', "tags.x = 1", "nested = {a = {b = [", "1]}}", "limits = [1, ", "2]"),
    *('"" = """', '"""', "1979-05-27 07:32:00", "port = 0x_1", "\t", "\r", "'", "# ü"),
]


def wrong_cases() -> list[tuple[str, str]]:
    """The blocks of ``WRONG``: a text, and what is said about it."""
    cases = []
    for block in WRONG.strip().split("\n\n"):
        lines = block.split("\n")
        said = " ".join(line[3:] for line in lines if line.startswith("=>"))
        text = "\n".join(line for line in lines if not line.startswith("=>"))
        cases.append((text.replace("AGENT\n", AGENT).replace("SOURCE\n", SOURCE), said))
    return cases


def message(text: str) -> str:
    """What a person reads about ``text``."""
    with pytest.raises(ConfigError) as caught:
        decode(text, Config, path="rig.toml", error=ConfigError)
    return str(caught.value)


class TestDecode:
    """Texts that fit, and texts that do not."""

    def test_fits(self) -> None:
        """A text that fits becomes the type; integers serve as numbers."""
        text = SOURCE + '[sources.tags]\nab = "x"\n'
        config = decode(text, Config, path="", error=ConfigError)
        assert config == Config(Agent("north"), [Opc(name="press", tags={"ab": "x"})])
        assert decode(AGENT + "rate = 2", Config, path="", error=ConfigError).agent.rate == 2.0

    @pytest.mark.parametrize(("text", "expected"), wrong_cases())
    def test_wrong_field(self, text: str, expected: str) -> None:
        """Line, field, value, what is allowed, and what to do."""
        assert message(text) == f"rig.toml:{expected}"

    @pytest.mark.parametrize(("text", "expected"), SYNTAX)
    def test_wrong_text(self, text: str, expected: str) -> None:
        """Line and column, the line itself, and what to do."""
        assert message(text).startswith(f"rig.toml:{expected}")

    @pytest.mark.parametrize(
        "text", [AGENT + 'site = "south"', AGENT + AGENT, "a.b = 1\n[a]\nc = 2", "a = []\n[[a]]"]
    )
    def test_repeated_name(self, text: str) -> None:
        """A name that is written twice is called that."""
        assert message(text).endswith("(the same name is written above; keep one of the two)")

    def test_too_large(self) -> None:
        """Nothing over 1 MiB is parsed."""
        assert message("#" * (LARGEST_FILE + 1)).startswith(
            "rig.toml: is larger than 1048576 bytes"
        )

    def test_bad_entry_among_many(self) -> None:
        """The one bad entry of a long table of free names is found."""
        entries = "".join(f'key{i} = "{"" if i == 700 else "x"}"\n' for i in range(1000))
        assert message(f"{SOURCE}[sources.tags]\n{entries}").startswith(
            'rig.toml:707: sources[0].tags.key700 is ""'
        )

    @given(text=st.text(st.characters()))
    def test_any_text(self, text: str) -> None:
        """Arbitrary text never raises anything but the error that was asked for."""
        assert message(text).startswith("rig.toml:")

    @given(
        lines=st.lists(st.sampled_from(PIECES), max_size=12),
        end=st.sampled_from(["\n", "\r\n", " "]),
    )
    def test_any_lines(self, lines: list[str], end: str) -> None:
        """Nor does text out of pieces that nearly fit."""
        try:
            right = isinstance(
                decode(end.join(lines), Config, path="rig.toml", error=ConfigError), Config
            )
        except ConfigError as error:
            right = error.message.startswith("rig.toml:")
        assert right


class TestLoad:
    """Files."""

    def test_file(self, tmp_path: Path) -> None:
        """A file is read as UTF-8; the mark that Windows editors put first is no text."""
        path = tmp_path / "rig.toml"
        path.write_bytes(b"\xef\xbb\xbf" + b'[agent]\r\nsite = "M\xc3\xbcnchen"\r\n')
        assert load(path, Config, ConfigError).agent.site == "München"

    def test_names_the_file(self, tmp_path: Path) -> None:
        """Errors begin with the path."""
        path = tmp_path / "rig.toml"
        path.write_text("[agent]\nsite = 1")
        with pytest.raises(ConfigError, match=r"rig\.toml:2: agent\.site is 1"):
            load(path, Config, ConfigError)

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("missing.toml", "No such file or directory"),
            ("folder", "Is a directory"),
            ("loop", "Too many levels of symbolic links"),
        ],
    )
    def test_unreadable(self, tmp_path: Path, name: str, reason: str) -> None:
        """What cannot be opened says why."""
        (tmp_path / "folder").mkdir()
        (tmp_path / "loop").symlink_to("loop")
        with pytest.raises(ConfigError) as caught:
            load(tmp_path / name, Config, ConfigError)
        assert caught.value.message == f"{tmp_path / name}: cannot be read: {reason}"
        assert caught.value.remedy

    def test_forbidden(
        self, tmp_path: Path, as_nobody: Callable[[], AbstractContextManager[None]]
    ) -> None:
        """A file of somebody else says so."""
        path = tmp_path / "rig.toml"
        path.touch(mode=0o000)
        with as_nobody(), pytest.raises(ConfigError, match="cannot be read: Permission denied"):
            load(path, Config, ConfigError)

    def test_not_utf8(self, tmp_path: Path) -> None:
        """Text in another encoding names the line and the byte."""
        path = tmp_path / "rig.toml"
        path.write_bytes('[agent]\nsite = "München"'.encode("latin-1"))
        with pytest.raises(ConfigError, match=r":2: is not UTF-8 text: byte 0xfc \(save the file"):
            load(path, Config, ConfigError)

    def test_too_large(self, tmp_path: Path) -> None:
        """A huge file is not read to its end."""
        path = tmp_path / "rig.toml"
        path.touch()
        os.truncate(path, 1 << 40)
        with pytest.raises(ConfigError, match="is larger than 1048576 bytes"):
            load(path, Config, ConfigError)

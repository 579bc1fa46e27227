# SPDX-License-Identifier: Apache-2.0
import io
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared.log import configure, get_logger


@pytest.fixture(autouse=True)
def defaults() -> Iterator[None]:
    """Leave structlog as it was found."""
    yield
    structlog.reset_defaults()


def _logged(level: str = "info", /, **values: object) -> str:
    stream = io.StringIO()
    configure(level=level, stream=stream)
    get_logger(agent="press-1").info("round.closed", **values)
    return stream.getvalue()


class TestLines:
    def test_literal(self) -> None:
        """Time, level and event first, then the context, then the values; logfmt quoting."""
        line = _logged(round=3, text="two words", quoted='"a"', pair="a=b", nothing=None, on=True)
        time, rest = line.split(" ", 1)
        assert re.fullmatch(r"timestamp=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", time)
        assert rest == (
            'level=info event=round.closed agent=press-1 round=3 text="two words" '
            'quoted="\\"a\\"" pair="a=b" nothing= on\n'
        )

    def test_an_exception_is_one_line(self) -> None:
        """With its traceback, so that no line of a log stands alone."""
        stream = io.StringIO()
        configure(stream=stream)
        try:
            int("x")
        except ValueError:
            get_logger().exception("source.failed")
        (line,) = stream.getvalue().splitlines()
        assert 'exception="Traceback (most recent call last):\\n' in line
        assert "ValueError: invalid literal" in line

    def test_terminals_are_safe(self) -> None:
        """A refusal's text may come from a machine in other hands."""
        assert "text=\\x1b[2J\\rgone\\n\\udcff\n" in _logged(text="\x1b[2J\rgone\n\udcff")

    @given(text=st.text(st.characters(), max_size=30))
    def test_any_text_stays_on_its_line(self, text: str) -> None:
        """One event is one printable line."""
        line = _logged(text=text)
        assert line.endswith("\n")
        assert line[:-1].isprintable()


class TestLevels:
    def test_below_the_level_is_dropped(self) -> None:
        """The level of the configuration file decides."""
        assert _logged("warning") == ""
        assert _logged("info") != ""
        assert _logged("debug") != ""

    def test_unknown_level(self) -> None:
        """A mistake of the caller; configuration files are checked before."""
        with pytest.raises(KeyError, match="loud"):
            configure(level="loud")

    def test_standard_error_by_default(self) -> None:
        """Standard output belongs to results."""
        code = "from fedmill_shared.log import *; configure(); get_logger().info('a.b')"
        child = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        )
        assert child.stdout == ""
        assert child.stderr.endswith("level=info event=a.b\n")


class TestImport:
    def test_needs_no_rich(self) -> None:
        """A gateway does not pay for pretty tracebacks; who wants rich still gets it."""
        code = (
            "import sys, fedmill_shared.log\n"
            "assert 'rich' not in sys.modules\n"
            "import rich, asyncio\n"
            "asyncio.run(asyncio.sleep(0)); rich.get_console()"
        )
        subprocess.run([sys.executable, "-c", code], check=True)

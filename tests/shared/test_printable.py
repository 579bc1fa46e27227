# SPDX-License-Identifier: Apache-2.0
from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared.printable import printable


@given(st.text())
def test_nothing_steers_a_terminal(text: str) -> None:
    """Whatever a text has, what is shown is printable, and plain texts stay as they are."""
    shown = printable(text)
    assert shown.isprintable()
    assert shown == text or not text.isprintable()


def test_what_is_kept() -> None:
    """A line break, for who handles it."""
    assert printable("a\nb\x1b", keep="\n") == "a\nb\\x1b"

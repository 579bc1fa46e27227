# SPDX-License-Identifier: Apache-2.0
import pytest

from fedmill_shared.nearest import nearest


@pytest.mark.parametrize(
    ("word", "meant"), [("lenght", "length"), ("length", "length"), ("zzz", ""), ("", "")]
)
def test_the_nearest_word_or_none(word: str, meant: str) -> None:
    """Of any collection of words, also one that can be gone through once only."""
    known = ["stride", "length", "rate"]
    assert nearest(word, known) == nearest(word, iter(known)) == meant
    assert nearest(word, []) == ""

# SPDX-License-Identifier: Apache-2.0
"""How good a value is, in the numbers and words that plants write beside it.

Sparkplug B 3.0, 6.4.6 (0, 192, 500); OPC Data Access 3.0, 6.8 (the upper two of eight bits are bad,
uncertain or good); OPC UA and most gateways write words that begin with one of the three.
"""

from collections.abc import Mapping
from typing import Final, Literal

from fedmill_agent.sources.live import BAD, GOOD, STALE

Word = Literal["good", "bad", "stale"]

CODES: Final[Mapping[str, int]] = {"good": GOOD, "bad": BAD, "stale": STALE}
_WORDS = {
    "good": GOOD,
    "ok": GOOD,
    "true": GOOD,
    "bad": BAD,
    "false": BAD,
    "error": BAD,
    "stale": STALE,
    "uncertain": STALE,
}
_UPPER_BITS = {0: BAD, 1: STALE, 3: GOOD}


def quality_of(told: object, known: Mapping[str, Word] | None = None) -> int | None:
    """0 bad, 192 good or 500 stale; None where nobody knows what ``told`` means.

    ``known`` gives meanings of a plant's own and comes first. Nothing (None) is good: most write a
    quality only where there is something to say.
    """
    if told is None:
        return GOOD
    own = (known or {}).get(_text(told))
    if own is not None:
        return CODES[own]
    if isinstance(told, str):
        return _of_word(told.strip().lower())
    return _of_number(told) if isinstance(told, int | float) else None


def _of_word(word: str) -> int | None:
    if word.isascii() and word.isdecimal():
        return _of_number(int(word[:9]))
    return next((code for name, code in _WORDS.items() if word.startswith(name)), None)


def _of_number(told: float) -> int | None:
    if isinstance(told, bool):
        return GOOD if told else BAD
    if told == STALE:
        return STALE
    return _UPPER_BITS.get(int(told) >> 6) if told in range(256) else None


def _text(told: object) -> str:
    if isinstance(told, bool):
        return "true" if told else "false"
    return f"{told:g}" if isinstance(told, float) else str(told)

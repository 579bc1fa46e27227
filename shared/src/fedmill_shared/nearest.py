# SPDX-License-Identifier: Apache-2.0
"""What somebody probably meant."""

from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str:
    """The one of ``known`` that is most like ``word``; empty if none is."""
    import difflib  # noqa: PLC0415  0.2 MiB that only a mistake is worth

    return next(iter(difflib.get_close_matches(word, list(known), 1)), "")

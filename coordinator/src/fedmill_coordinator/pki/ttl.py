# SPDX-License-Identifier: Apache-2.0
"""Spans of time as people write them: ``90s``, ``30m``, ``24h``, ``7d``, ``1d12h``."""

import re

from fedmill_shared.errors import UsageError

_SECONDS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
_SPAN = re.compile(r"(?:(\d{1,4})d)?(?:(\d{1,5})h)?(?:(\d{1,6})m)?(?:(\d{1,7})s)?", re.ASCII)
SHORTEST, LONGEST = 60, 30 * 86_400
"""Seconds: enough to walk to a box, and no code that is forgotten in a drawer for good."""


def parse_ttl(text: str) -> int:
    """Nanoseconds of a span of time.

    Raises:
        UsageError: it is none, or shorter or longer than a code may be good.
    """
    found = _SPAN.fullmatch(text.strip().lower()[:32])
    numbers = found.groups() if found else ()
    seconds = sum(int(n) * by for n, by in zip(numbers, _SECONDS.values(), strict=False) if n)
    if not SHORTEST <= seconds <= LONGEST:
        raise UsageError(
            f"--ttl is {text[:32]!r}", remedy="write a span from 1m to 30d, as 30m, 24h or 1d12h"
        )
    return seconds * 1_000_000_000

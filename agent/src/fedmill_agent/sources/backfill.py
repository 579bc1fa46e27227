# SPDX-License-Identifier: Apache-2.0
"""What a job wants of the recording of a live source before it wants what comes."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backfill:
    """A wish for what was recorded.

    Attributes:
        since_ns: readings before this source time (ns UTC) were given already, before a restart.
        done: told once all was given, on a thread of its own; it may raise StoreError.
    """

    since_ns: int
    done: Callable[[], object]

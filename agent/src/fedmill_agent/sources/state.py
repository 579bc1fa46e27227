# SPDX-License-Identifier: Apache-2.0
"""What a live source says of itself, for people; light enough for a gateway that has none."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Phase = Literal["starting", "running", "silent", "waiting", "left out", "stopped"]
MOST_PROBLEMS = 32


class Standing(Struct, frozen=True, kw_only=True):
    """A live source at one moment.

    Attributes:
        phase: ``starting`` has brought nothing good yet; ``running`` delivers; ``waiting`` will be
            tried again; ``left out`` will not, as its ``startup`` says.
        error: why it does not run, or last did not; empty if it always has.
        readings: values that came.
        bad: of them, those of bad quality or that are no number.
        stale: of them, those that their source calls old.
        dropped: what was left out, and why.
        connections: how often it was opened.
        last_ns: when the newest good value arrived, ns UTC; 0 for never.
        skew_seconds: how far its clock is ahead of ours, by the newest value.
        problems: tags that do not come, each with the reason.
    """

    phase: Phase = "starting"
    error: str = ""
    readings: int = 0
    bad: int = 0
    stale: int = 0
    dropped: dict[str, int] = {}
    connections: int = 0
    last_ns: int = 0
    skew_seconds: float = 0.0
    problems: Annotated[dict[str, str], Meta(max_length=MOST_PROBLEMS)] = {}

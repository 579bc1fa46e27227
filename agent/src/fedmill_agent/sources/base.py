# SPDX-License-Identifier: Apache-2.0
"""What a source is: a folder that turns something outside into the three events below.

A source knows tags, not signals: it delivers the tags it was asked for, in the unit it has them.
Unit conversion, quality and windows come after it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fedmill_agent.sources.timeline import parse_iso
from fedmill_shared.errors import ConfigError, DataError

if TYPE_CHECKING:
    from fedmill_agent.sources.live import Live

Split = Literal["auto", "train", "validation", "test", "live"]


@dataclass(frozen=True, slots=True)
class Samples:
    """Consecutive samples of the requested tags.

    Attributes:
        run: the recording, batch or engine life these samples belong to; windows never span runs.
        unit: the machine or part; units are never divided between train and test.
        start_ns: source time of the first sample, ns UTC.
        period_ns: ns between samples.
        values: float64 (tags, samples) in the order of the requested tags, in source units; NaN
            where the source has no value.
    """

    run: str
    unit: str
    start_ns: int
    period_ns: int
    values: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LabelInterval:
    """Ground truth for a stretch of one run.

    A class has ``text``; a number runs linearly from ``start_value`` at ``start_ns`` to
    ``end_value`` at ``end_ns`` (both ends included).
    """

    run: str
    start_ns: int
    end_ns: int
    text: str = ""
    start_value: float = 0.0
    end_value: float = 0.0


@dataclass(frozen=True, slots=True)
class RunEnded:
    """No more samples of ``run`` will come."""

    run: str


Event = Samples | LabelInterval | RunEnded


class SourceOptions(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"
):
    """Fields that every ``[[sources]]`` entry of an agent's configuration has.

    Attributes:
        name: name of the source in logs and listings.
        split: what its windows are for; ``auto`` lets the job's ``[evaluation]`` decide, ``live``
            windows are scored and never stored for learning.
        tags: signal -> tag (empty: the job's own ``tag``, else the signal's name).
        units: signal -> unit in which the source delivers it (empty: the job's unit).
        scales: signal -> what a raw value is multiplied by to be in that unit, as in 0.1 for a
            register that counts tenths.
        offsets: signal -> what is added after that.
    """

    name: str
    split: Split = "auto"
    tags: dict[str, str] = {}
    units: dict[str, str] = {}
    scales: dict[str, float] = {}
    offsets: dict[str, float] = {}

    def __post_init__(self) -> None:
        """Raise ValueError, which decoding reports with its place in the file."""
        for signal, scale in self.scales.items():
            if not 0.0 < abs(scale) < float("inf"):
                raise ValueError(f"`scales` of {signal!r} is {scale}, which leaves no value")
        for signal, offset in self.offsets.items():
            if not abs(offset) < float("inf"):
                raise ValueError(f"`offsets` of {signal!r} is {offset}, which leaves no value")


class ReplayOptions(SourceOptions, frozen=True, kw_only=True):
    """Fields of every source that plays a recording.

    Attributes:
        speed: 0 replays as fast as possible, 1 in real time, 60 a minute a second.
        repeat: start again at the end, with later timestamps.
        start: ISO 8601 source time (UTC) of the first sample of a replay.
    """

    speed: float = 0.0
    repeat: bool = False
    start: str = "2024-01-01T00:00:00+00:00"

    def __post_init__(self) -> None:
        """Raise ValueError, which decoding reports with its place in the file."""
        super().__post_init__()
        try:
            parse_iso(self.start)
        except ValueError as error:
            raise ValueError(
                f"`start` {self.start!r} is not an ISO 8601 time such as 2024-01-01T00:00:00+00:00"
            ) from error
        if not 0.0 <= self.speed < float("inf"):
            raise ValueError(f"`speed` {self.speed} is not 0 (as fast as possible) or more")


def at_once(options: SourceOptions) -> bool:
    """Whether this is a recording that is read as fast as possible and comes to an end."""
    return isinstance(options, ReplayOptions) and options.speed == 0 and not options.repeat


def fixed_rate(options: SourceOptions) -> float:
    """The option ``rate_hz``; 0 where a kind has none and takes what a job wants."""
    return float(getattr(options, "rate_hz", 0.0))


def no_recording(options: SourceOptions, _tags: Sequence[str], _rate_hz: float) -> Iterator[Event]:
    """Refuse: what a live source brings cannot be read like a recording.

    Raises:
        DataError: always.
    """
    raise DataError(
        f"source {options.name!r} is live: there is no recording to read",
        remedy="try it with `fedmill-agent check` or `fedmill-agent discover`",
    )


@dataclass(frozen=True, slots=True)
class SourceKind:
    """A manifest: the kind's options type, how it is read, and how its rate is known.

    ``read(options, tags, rate_hz)`` yields events of a recording as fast as they can be read;
    pacing is not the source's business. It raises DataError naming file, tag and remedy.
    ``rate_hz`` is what the job wants; a source that has another rate resamples or refuses.

    ``rate(options)`` is the samples per second that the source itself tells, before it is read; 0
    where it tells none. It may raise DataError.

    ``live`` opens what goes on for ever, as ``fedmill_agent.sources.live`` says; such a kind has no
    ``read``.
    """

    options: type[SourceOptions]
    read: Callable[[SourceOptions, Sequence[str], float], Iterator[Event]] = no_recording
    rate: Callable[[SourceOptions], float] = fixed_rate
    live: "Live | None" = None


def lacking(options: SourceOptions, extra: str, error: ImportError) -> ConfigError:
    """What to raise where a library that only one kind of source needs cannot be imported."""
    library = (error.name or extra).partition(".")[0]
    return ConfigError(
        f"source {options.name!r} needs the package {library}, which cannot be imported: {error}",
        remedy=f"pip install fedmill-agent[{extra}]",
    )


_Options = TypeVar("_Options", bound=SourceOptions)


def narrow(options: SourceOptions, kind: type[_Options]) -> _Options:
    """``options`` as the type that belongs to a kind.

    Raises:
        ConfigError: they belong to another kind.
    """
    if not isinstance(options, kind):
        raise ConfigError(
            f"source {options.name!r}: {type(options).__name__} given, {kind.__name__} expected"
        )
    return options

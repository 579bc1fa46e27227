# SPDX-License-Identifier: Apache-2.0
"""What a job is about: its name, its signals, how they are cut, and the ground truth."""

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from fedmill_shared.job.kinds import Name, Positive, Rate


class Task(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the job is called and what it learns."""

    name: Annotated[Name, Meta(description="Name of the job, unique on the coordinator.")]
    task: Annotated[
        Literal["classification", "regression", "reconstruction"],
        Meta(
            description="Predict one of several classes, or a number in the label's unit; or learn "
            "without labels what windows look like (`reconstruction`), and tell of each how badly "
            "the model gives it back."
        ),
    ] = "classification"


class Signal(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One time series that every agent of the job must deliver."""

    name: Annotated[Name, Meta(description="Name of the signal inside the job.")]
    unit: Annotated[
        str, Meta(description="Canonical unit; agents convert to it or are refused.")
    ] = "1"
    rate_hz: Annotated[
        Rate,
        Meta(
            description="Samples per second (Hz). A window has the largest rate of its signals; a "
            "slower one holds each value until the next."
        ),
    ] = 1.0
    tag: Annotated[
        str,
        Meta(description="Name of the source's tag or column where an agent maps none itself."),
    ] = ""
    role: Annotated[
        Literal["input", "regime"],
        Meta(
            description="An input feeds the network; a regime signal only says which operating "
            'condition the machine is in, for `window.normalise = "regime"`.'
        ),
    ] = "input"
    resolution: Annotated[
        Positive,
        Meta(description="Regime signals: values closer than this belong to one condition."),
    ] = 1.0
    range: Annotated[
        list[float],
        Meta(
            max_length=2,
            description="Smallest and largest plausible value in `unit`, as in `[0, 250]`: what "
            "lies outside is bad. Empty: every number is plausible.",
        ),
    ] = []
    flat_seconds: Annotated[
        float,
        Meta(
            ge=0.0,
            description="Time (s) without any change after which the signal is taken for stuck; "
            "less than that of a window. 0: it may stay, as setpoints do.",
        ),
    ] = 0.0
    max_slope: Annotated[
        float,
        Meta(
            ge=0.0,
            description="Fastest plausible change, `unit` per second: a value that is further from "
            "the last good one is a spike, and bad. 0: it may jump.",
        ),
    ] = 0.0


def window_rate(signals: Sequence[Signal]) -> float:
    """Samples per second of windows of ``signals``: the rate of the fastest."""
    return max(signal.rate_hz for signal in signals)


class Window(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How streams are cut into the model's input."""

    length: Annotated[
        int, Meta(ge=1, le=1_048_576, description="Samples of each signal in one window.")
    ] = 1024
    stride: Annotated[
        int,
        Meta(ge=0, le=1_048_576, description="Samples between window starts; 0 means `length`."),
    ] = 0
    pad: Annotated[
        Literal["none", "edge"],
        Meta(
            description="Before a run has filled a window: wait, or fill it up by repeating the "
            "run's first sample."
        ),
    ] = "none"
    normalise: Annotated[
        Literal["none", "global", "regime"],
        Meta(
            description="Standardise by statistics agreed across the fleet: not at all, per "
            "signal, or per signal and operating condition."
        ),
    ] = "global"
    trigger: Annotated[
        str,
        Meta(
            max_length=32,
            description="Signal that begins a window where it crosses `trigger_level`, such as the "
            "ram of a press. Empty: windows begin every `stride` samples.",
        ),
    ] = ""
    trigger_level: Annotated[
        float, Meta(description="Trigger: the level, in the unit of the signal.")
    ] = 0.0
    trigger_edge: Annotated[
        Literal["rising", "falling"],
        Meta(description="Trigger: whether it is crossed from below or from above."),
    ] = "rising"
    trigger_hysteresis: Annotated[
        float,
        Meta(
            ge=0.0,
            description="Trigger: how far on the other side of the level the signal must have been "
            "since, so that noise begins no window.",
        ),
    ] = 0.0
    trigger_before: Annotated[
        int,
        Meta(
            ge=0,
            le=1_048_576,
            description="Trigger: samples of the window that lie before the crossing.",
        ),
    ] = 0
    order: Annotated[
        str,
        Meta(
            max_length=32,
            description="Signal that tells the speed of a shaft, in rpm, Hz or rad/s: every window "
            "is resampled to equal steps of its angle, before features (order tracking). Empty: "
            "windows stay in time.",
        ),
    ] = ""
    revolutions: Annotated[
        int,
        Meta(
            ge=1,
            le=65_536,
            description="Order: revolutions in a resampled window, the first of its `length` "
            "samples. One with fewer is neither learned from nor scored.",
        ),
    ] = 16
    per_revolution: Annotated[
        int,
        Meta(
            ge=2,
            le=65_536,
            description="Order: values for each revolution; what happens more than half as often "
            "is taken out.",
        ),
    ] = 64


class Cleaning(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is done about bad values in every window, whether it is learned from or scored."""

    missing: Annotated[
        Literal["linear", "hold", "drop"],
        Meta(
            description="Gaps of at most `hold` samples are filled with a line or with the value "
            "before them; or nothing is filled."
        ),
    ] = "linear"
    hold: Annotated[
        int,
        Meta(
            ge=1,
            le=1_048_576,
            description="Samples of the longest gap that is filled. A window with a longer one is "
            "neither learned from nor scored.",
        ),
    ] = 5
    outliers: Annotated[
        Literal["none", "hampel", "winsorise"],
        Meta(
            description="What happens to outliers: nothing; each becomes the median of its "
            "neighbours; or the tails of every signal are drawn in. Only of inputs, and not for "
            "vibration, where impulses are what damage looks like, nor for switches."
        ),
    ] = "none"
    reach: Annotated[
        int, Meta(ge=1, le=1000, description="Hampel: neighbours to either side of a sample.")
    ] = 5
    sigmas: Annotated[
        float,
        Meta(
            ge=0.0,
            le=1000.0,
            description="Hampel: robust standard deviations from the median of its neighbours from "
            "which on a sample is an outlier.",
        ),
    ] = 3.0
    tails: Annotated[
        float, Meta(gt=0.0, lt=0.5, description="Winsorise: share of each tail of a window.")
    ] = 0.01
    least_good: Annotated[
        float,
        Meta(
            ge=0.0,
            le=1.0,
            description="Share of the values of a window that must have come and be plausible, "
            "whatever can be repaired.",
        ),
    ] = 0.0


class Labels(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the ground truth looks like."""

    classes: Annotated[
        list[str],
        Meta(
            max_length=200,
            description="Class names of a classification; any other label is refused.",
        ),
    ] = []
    unit: Annotated[str, Meta(description="Unit of a regression target.")] = "1"
    cap: Annotated[
        float,
        Meta(
            ge=0.0,
            description="Regression: larger targets count as this value (piecewise remaining "
            "useful life); 0 means no cap.",
        ),
    ] = 0.0
    source: Annotated[
        Literal["source", "forecast", "event"],
        Meta(
            description="Where the truth comes from: labels of sources and people; the stream "
            "itself, some time later (`forecast`); or events such as maintenance, to which the "
            "remaining life is counted down (`event`)."
        ),
    ] = msgspec.field(default="source", name="from")
    tolerance_seconds: Annotated[
        float,
        Meta(
            ge=0.0,
            le=31_536_000.0,
            description="Time (s) by which a window may reach beyond its label. Of several labels "
            "the one that fits best holds.",
        ),
    ] = 0.0
    conflict: Annotated[
        Literal["newest", "drop"],
        Meta(
            description="Where two labels fit a window equally well and contradict each other, the "
            "newest holds, or the window is not learned from."
        ),
    ] = "newest"
    signal: Annotated[
        str, Meta(max_length=200, description="Forecast: the signal whose value is to be foretold.")
    ] = ""
    horizon_seconds: Annotated[
        float,
        Meta(
            ge=0.0,
            description="Forecast: time (s) from a window's last sample to the value that is "
            "foretold; a whole number of samples.",
        ),
    ] = 0.0
    events: Annotated[
        list[Annotated[str, Meta(max_length=200)]],
        Meta(
            max_length=200,
            description="Events: the classes of labels that end a life; empty: every label.",
        ),
    ] = []

# SPDX-License-Identifier: Apache-2.0
"""A simulated bearing test rig, so that a demonstration needs no download."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from fedmill_agent.sources.base import Event, ReplayOptions, SourceKind, SourceOptions, narrow
from fedmill_agent.sources.files import positions
from fedmill_agent.sources.replay import recording
from fedmill_agent.sources.rig.kinematics import Bearing, Fault
from fedmill_agent.sources.rig.vibration import Rig, simulate
from fedmill_agent.sources.timeline import parse_iso, period_ns
from fedmill_shared.errors import DataError

TAGS = ("vibration",)
MOST_SAMPLES = 2**21


class RigOptions(ReplayOptions, frozen=True, kw_only=True, tag="rig"):
    """One simulated recording; its tag is ``vibration``, in g. The bearing is a 6205 by default."""

    fault: Annotated[
        Literal["normal", "outer", "inner", "ball"], Meta(description="Which part is damaged.")
    ] = "normal"
    severity: Annotated[
        float, Meta(ge=0.0, le=1000.0, description="Peak of one impact at full load, in g.")
    ] = 1.0
    speed_rpm: Annotated[
        float, Meta(ge=60.0, le=100_000.0, description="Shaft speed, revolutions per minute.")
    ] = 1797.0
    load: Annotated[
        float, Meta(ge=0.0, le=2.0, description="Radial load; 1 is the rated load.")
    ] = 1.0
    resonance_hz: Annotated[
        list[Annotated[float, Meta(ge=50.0)]],
        Meta(min_length=1, max_length=4, description="Structural resonances that impacts excite."),
    ] = msgspec.field(default_factory=lambda: [2800.0, 4100.0])
    damping: Annotated[
        float, Meta(ge=0.005, le=0.5, description="Damping ratio of the resonances.")
    ] = 0.05
    noise_g: Annotated[
        float, Meta(ge=0.0, le=1000.0, description="Standard deviation of sensor noise, in g.")
    ] = 0.05
    sensor_gain: Annotated[
        float, Meta(gt=0.0, le=1000.0, description="What the sensor shows for 1 g.")
    ] = 1.0
    seconds: Annotated[float, Meta(gt=0.0, description="Length of the recording, s.")] = 10.0
    seed: Annotated[int, Meta(ge=0, description="The same seed gives the same recording.")] = 0
    balls: Annotated[int, Meta(ge=3, le=100, description="Rolling elements.")] = 9
    ball_mm: Annotated[float, Meta(gt=0.0, description="Diameter of a ball, mm.")] = 7.94
    pitch_mm: Annotated[float, Meta(gt=0.0, description="Pitch diameter, mm.")] = 39.04
    contact_degrees: Annotated[
        float, Meta(ge=0.0, le=60.0, description="Contact angle, degrees.")
    ] = 0.0
    label: Annotated[str, Meta(description="Class of the recording; empty for `fault`.")] = ""
    run: Annotated[str, Meta(description="Name of the run; empty for the source's name.")] = ""
    unit: Annotated[str, Meta(description="The machine; empty for the source's name.")] = ""

    def __post_init__(self) -> None:
        """Raise ValueError, which decoding reports with its place in the file."""
        super().__post_init__()
        if self.ball_mm >= self.pitch_mm:
            raise ValueError(
                f"`ball_mm` {self.ball_mm:g} is not below `pitch_mm` {self.pitch_mm:g}"
            )


def read(options: SourceOptions, tags: Sequence[str], rate_hz: float) -> Iterator[Event]:
    """Samples at the job's rate, the label and the end of the one run.

    Raises:
        DataError: another tag than ``vibration``, a resonance that the job's rate cannot show, or
            more than 2 million samples.
    """
    own = narrow(options, RigOptions)
    where = f"source {own.name!r}"
    columns = positions(where, tags, TAGS)
    count = round(own.seconds * rate_hz)
    if not 0 < count <= MOST_SAMPLES:
        raise DataError(
            f"{where}: {own.seconds:g} s are {count} samples, 1 to {MOST_SAMPLES} are possible",
            remedy="change `seconds`; `repeat` makes a recording as long as you like",
        )
    if max(own.resonance_hz) >= rate_hz / 2:
        raise DataError(
            f"{where}: a resonance of {max(own.resonance_hz):g} Hz cannot be seen at {rate_hz:g} "
            "samples per second",
            remedy="keep `resonance_hz` below half of the job's rate",
        )
    yield from recording(
        simulate(_rig(own), own.fault, count, rate_hz, own.seed)[columns],
        run=own.run or own.name,
        unit=own.unit or own.name,
        start_ns=parse_iso(own.start),
        period_ns=period_ns(rate_hz),
        label=own.label or own.fault,
    )


KIND = SourceKind(RigOptions, read)

__all__ = ["KIND", "TAGS", "Bearing", "Fault", "Rig", "RigOptions", "read", "simulate"]


def _rig(own: RigOptions) -> Rig:
    return Rig(
        bearing=Bearing(own.balls, own.ball_mm, own.pitch_mm, own.contact_degrees),
        severity=own.severity,
        speed_rpm=own.speed_rpm,
        load=own.load,
        resonance_hz=tuple(own.resonance_hz),
        damping=own.damping,
        noise_g=own.noise_g,
        sensor_gain=own.sensor_gain,
    )

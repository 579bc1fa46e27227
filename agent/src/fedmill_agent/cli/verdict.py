# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a signal of a live source, as far as some seconds of it can tell, in words."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fedmill_agent.cli.observe import Look, Seen
from fedmill_agent.sources.base import SourceOptions, narrow
from fedmill_agent.sources.live import LiveOptions, hold_ns
from fedmill_agent.sources.timeline import period_ns
from fedmill_shared.errors import SchemaError
from fedmill_shared.job import Signal
from fedmill_shared.signals.units import affine, convertible

RATE_TOLERANCE = 0.1
SKEW_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Mapped:
    """A signal of a job, or one that the configuration maps, and how a source has it.

    Attributes:
        name: of the signal.
        tag: what the source calls it.
        unit: in which the source has it.
        factor: from there to the job's unit, scale included.
        offset: in the job's unit.
        signal: of the job; None without a job.
        scale: what the configuration says under ``scales``.
        added: what it says under ``offsets``.
    """

    name: str
    tag: str
    unit: str
    factor: float = 1.0
    offset: float = 0.0
    signal: Signal | None = None
    scale: float = 1.0
    added: float = 0.0

    @property
    def plausible(self) -> tuple[float, float] | None:
        """Bounds of its values as the source has them; None where the job tells none."""
        if self.signal is None or not self.signal.range or not self.factor:
            return None
        low, high = sorted((each - self.offset) / self.factor for each in self.signal.range)
        return low, high


def line_of(mapped: Mapped, look: Look, widest: int = 16) -> str:
    """Signal, tag (filled up to ``widest`` characters), value, unit, rate and quality."""
    seen = look.seen[mapped.tag]
    if not seen.good:
        value = f"no number ({seen.text!r})" if seen.text else "nothing good"
    else:
        low, high, last = (_scaled(mapped, each) for each in (seen.low, seen.high, seen.last))
        unit = mapped.signal.unit if mapped.signal else mapped.unit
        extent = "" if low == high else f", {low:.6g} to {high:.6g}"
        value = f"{last:.6g} {'' if unit == '1' else unit}".rstrip() + extent
    rate = f"{seen.rate_hz:.4g} Hz" if seen.rate_hz else f"{seen.values} values"
    share = f"{100 * seen.good / seen.values:.0f} % good" if seen.values else "nothing came"
    stale = f", {seen.stale} stale" if seen.stale else ""
    return f"{mapped.name:<20} tag {mapped.tag:<{max(16, widest)}} {value}; {rate}, {share}{stale}"


def faults_of(source: SourceOptions, mapped: Mapped, look: Look) -> Iterator[str]:
    """What is wrong with it, each with the remedy."""
    seen = look.seen[mapped.tag]
    if mapped.tag in look.problems:
        yield f"tag {mapped.tag!r}: {look.problems[mapped.tag]}"
    elif not seen.values:
        yield (
            f"tag {mapped.tag!r}: nothing came in {look.seconds:.0f} s; does it exist, and does it "
            "change? `fedmill-agent discover` lists what there is"
        )
    elif not seen.good:
        told = f"its values are no numbers ({seen.text!r})" if seen.text else "all values are bad"
        yield f"tag {mapped.tag!r}: {told}; look at the sensor, or map another tag"
    else:
        if mapped.signal is not None:
            yield from _range_faults(mapped, mapped.signal, look)
            yield from _rate_faults(narrow(source, LiveOptions), mapped.signal, seen)
        yield from _clock_faults(narrow(source, LiveOptions), mapped, seen)


def _range_faults(mapped: Mapped, signal: Signal, look: Look) -> Iterator[str]:
    if not signal.range:
        return
    low, high = signal.range
    seen = look.seen[mapped.tag]
    found = sorted(_scaled(mapped, each) for each in (seen.low, seen.high))
    if low <= found[0] and found[1] <= high:
        return
    part = "is" if found[1] < low or found[0] > high else "is in part"
    guesses = "; or ".join(_guesses(mapped, signal, look))
    yield (
        f"signal {signal.name!r} {part} outside {low:g} to {high:g} {signal.unit}: "
        f"{found[0]:.6g} to {found[1]:.6g}; "
        f"{guesses or 'check unit, scale, and the order of bytes and words'}"
    )


def _guesses(mapped: Mapped, signal: Signal, look: Look) -> Iterator[str]:
    """What would make the values plausible: an order of bytes, another unit, another scale."""
    for order, value in look.suspects.get(mapped.tag, ())[:1]:
        yield f"read as {order} it would be {_scaled(mapped, value):.6g}: correct its order"
    seen = look.seen[mapped.tag]
    raw = np.array([seen.low, seen.high])
    for unit in convertible(signal.unit):
        try:
            factor, offset = affine(unit, signal.unit)
        except SchemaError:
            continue
        told = (raw * mapped.scale + mapped.added) * factor + offset
        if unit != mapped.unit and _inside(np.sort(told), signal):
            yield f"does the source have it in {unit}? Say so under `units`"
            break
    for step in (0.1, 0.01, 0.001, 10.0, 100.0, 1000.0):
        if _inside(np.sort(raw * step * mapped.factor + mapped.offset), signal):
            yield f"with a scale of {step * mapped.scale:g} under `scales` it would fit"
            break


def _inside(values: "np.typing.NDArray[np.float64]", signal: Signal) -> bool:
    return bool(signal.range[0] <= values[0] and values[-1] <= signal.range[1])


def _rate_faults(options: LiveOptions, signal: Signal, seen: Seen) -> Iterator[str]:
    if not seen.rate_hz:
        return
    wanted = signal.rate_hz
    held = hold_ns(options, period_ns(wanted)) / 1e9
    if seen.rate_hz < wanted * (1 - RATE_TOLERANCE) and held < 1 / seen.rate_hz:
        yield (
            f"signal {signal.name!r} comes at {seen.rate_hz:.4g} Hz, the job wants {wanted:g} Hz: "
            "windows would have gaps; read it more often, lower the signal's rate_hz in the job, "
            "or let values count longer with `hold_seconds`"
        )
    told = options.rates.get(signal.name, wanted)
    if seen.rate_hz > 1.5 * told:
        yield (
            f"signal {signal.name!r} comes at {seen.rate_hz:.4g} Hz, {told:g} Hz are taken: what "
            "is faster would be mistaken for something slow; write "
            f"rates = {{ {signal.name} = {seen.rate_hz:.4g} }}, and it is filtered"
        )


def _clock_faults(options: LiveOptions, mapped: Mapped, seen: Seen) -> Iterator[str]:
    skew = seen.skew_ns / 1e9
    if options.clock == "source" and skew > SKEW_SECONDS:
        yield (
            f"tag {mapped.tag!r}: its times are {skew:.0f} s ahead of this machine's clock; set "
            'the clocks, or write clock = "arrival"'
        )


def _scaled(mapped: Mapped, value: float) -> float:
    return value * mapped.factor + mapped.offset

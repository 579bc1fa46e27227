# SPDX-License-Identifier: Apache-2.0
"""Rules about what is made of a window before the model sees it."""

from collections.abc import Iterator
from math import inf

from fedmill_shared.errors import SchemaError
from fedmill_shared.job import Job
from fedmill_shared.job.features import grid_of, pass_bins, top_bin
from fedmill_shared.job.later import LATER
from fedmill_shared.signals.units import affine
from fedmill_shared.toml.faults import Fault, value_fault
from fedmill_shared.toml.lines import Field
from fedmill_shared.toml.words import show

MOST_VALUES = 1 << 20
MOST_SPARED = 1000
"""Samples of a window for each value by angle; as many as a filter can take together."""
MOST_CHANNELS = 256
"""Rows of the model's input whose statistics fit into one message."""
_NEEDS = {
    "bands": "log_spectrum",
    "envelope_bands": "envelope_spectrum",
    "envelope_band": "envelope_spectrum",
    "envelope_top": "envelope_spectrum",
}


def shaping_faults(job: Job) -> Iterator[Fault]:
    """What of the windows and the features of ``job`` cannot be."""
    yield from _trigger_faults(job)
    yield from _order_faults(job)
    yield from _step_faults(job)
    yield from _idle_faults(job)
    if "log_spectrum" in job.features.steps:
        yield from _bands_faults(job, "bands", grid_of(job.signals, job.window).length // 2)
    if "envelope_spectrum" in job.features.steps:
        yield from _envelope_faults(job)


def _trigger_faults(job: Job) -> Iterator[Fault]:
    window = job.window
    if not window.trigger:
        usual = type(window)()
        for name in LATER["window"]:
            value = getattr(window, name)
            if name.startswith("trigger_") and value != getattr(usual, name):
                problem = "no signal triggers windows"
                remedy = "name one as window.trigger, or remove it"
                yield value_fault(("window", name), value, problem, remedy)
        return
    names = [signal.name for signal in job.signals]
    if window.trigger not in names:
        problem, remedy = "the job has no such signal", f"write one of {', '.join(names)}"
        yield value_fault(("window", "trigger"), window.trigger, problem, remedy)
    if window.stride:
        problem = "windows begin where window.trigger says, not at a stride"
        yield value_fault(("window", "stride"), window.stride, problem, "remove one of the two")
    if window.pad == "edge":
        problem = "the first sample of a run is repeated for windows at a stride only"
        remedy = 'write pad = "none", or remove window.trigger'
        yield value_fault(("window", "pad"), window.pad, problem, remedy)
    if window.trigger_before >= window.length:
        yield value_fault(
            ("window", "trigger_before"),
            window.trigger_before,
            f"a window has {window.length} samples, and the one that crosses is among them",
            "write less, or make window.length longer",
        )
    yield from _reach_faults(job)


def _reach_faults(job: Job) -> Iterator[Fault]:
    """A level that the trigger cannot cross without being bad."""
    window = job.window
    limits = next((each.range for each in job.signals if each.name == window.trigger), [])
    if len(limits) != 2:
        return
    falling, hysteresis = window.trigger_edge == "falling", window.trigger_hysteresis
    back = window.trigger_level + (hysteresis if falling else -hysteresis)
    low, high = limits
    if not low <= window.trigger_level <= high:
        field, value = "trigger_level", window.trigger_level
        problem = f"{window.trigger} is between {low:g} and {high:g}"
    elif back >= high if falling else back <= low:
        field = "trigger_hysteresis" if hysteresis else "trigger_level"
        value = getattr(window, field)
        problem = f"{window.trigger} must have been {'above' if falling else 'below'} {back:g}, "
        problem += f"and is between {low:g} and {high:g}"
    else:
        return
    yield value_fault(("window", field), value, problem, "write another, or a wider range")


def _order_faults(job: Job) -> Iterator[Fault]:
    window = job.window
    if not window.order:
        usual = type(window)()
        for name in ("revolutions", "per_revolution"):
            if (value := getattr(window, name)) != getattr(usual, name):
                problem = "windows stay in time"
                remedy = "name the signal of the speed as window.order, or remove it"
                yield value_fault(("window", name), value, problem, remedy)
        return
    field: Field = ("window", "order")
    speed = next((signal for signal in job.signals if signal.name == window.order), None)
    if speed is None:
        names = ", ".join(signal.name for signal in job.signals)
        problem = "the job has no such signal"
        yield value_fault(field, window.order, problem, f"write one of {names}")
        return
    no_speed = f"signal {speed.name} is in {speed.unit}, and no speed of a shaft"
    try:
        to_hz, _ = affine(speed.unit, "Hz")
    except SchemaError:
        yield value_fault(field, window.order, no_speed, "write its unit: rpm, Hz or rad/s")
        return
    values = window.revolutions * window.per_revolution
    if values > MOST_VALUES:
        problem = f"with per_revolution = {window.per_revolution} a window is too long"
        remedy = f"let both together make at most {MOST_VALUES} values"
        yield value_fault(("window", "revolutions"), window.revolutions, problem, remedy)
    if window.length > MOST_SPARED * values:
        problem = f"a window of {window.length} samples becomes {values} values"
        remedy = f"let one value stand for at most {MOST_SPARED} samples"
        yield value_fault(("window", "per_revolution"), window.per_revolution, problem, remedy)
    turns = to_hz * speed.range[-1] * window.length / job.rate_hz if speed.range else inf
    if turns < window.revolutions:
        yield value_fault(
            ("window", "revolutions"),
            window.revolutions,
            f"at the highest speed in the range of {speed.name} a window has {turns:.3g}",
            "write fewer, or make window.length longer",
        )


def _step_faults(job: Job) -> Iterator[Fault]:
    steps, field = job.features.steps, ("features", "steps")
    for index, step in enumerate(steps):
        if step in steps[:index]:
            yield value_fault((*field, index), step, "the step is listed twice", "remove one")
    if steps and len(job.channels) > MOST_CHANNELS:
        yield value_fault(
            field,
            steps,
            f"they make {len(job.channels)} rows of {len(job.signals)} signals, and a model takes "
            f"at most {MOST_CHANNELS}",
            "name fewer signals or steps, or write fewer bands",
        )


def _idle_faults(job: Job) -> Iterator[Fault]:
    """A field of a step that is not taken: probably it was forgotten in the list."""
    features = job.features
    for name, step in _NEEDS.items():
        value = getattr(features, name)
        if step not in features.steps and value != getattr(type(features)(), name):
            problem = f"it is for the step {step}, which is not taken"
            remedy = f"add {show(step)} to features.steps, or remove it"
            yield value_fault(("features", name), value, problem, remedy)


def _bands_faults(job: Job, name: str, bins: int) -> Iterator[Fault]:
    bands = getattr(job.features, name)
    if bands > bins:
        yield value_fault(
            ("features", name),
            bands,
            f"there are {bins} frequencies in windows of {grid_of(job.signals, job.window).length}",
            "write at most as many bands, or make the windows longer",
        )


def _envelope_faults(job: Job) -> Iterator[Fault]:
    features, grid = job.features, grid_of(job.signals, job.window)
    field: Field = ("features", "envelope_band")
    band, half = features.envelope_band, grid.rate / 2
    unit = "Hz" if grid.unit == "hz" else grid.unit
    remedy = f"write [lowest, highest] in {unit}, or remove it"
    if len(band) == 1:
        yield value_fault(field, band, "one number is no band", remedy)
    elif band and not 0 <= band[0] < band[1] <= half * (1 + 1e-9):
        problem = f"both lie between 0 and {half:.6g}, half the rate, the lowest first"
        yield value_fault(field, band, problem, remedy)
    elif band and pass_bins(grid, features)[0] > pass_bins(grid, features)[1]:
        problem = f"frequencies in such windows are {grid.rate / grid.length:.6g} apart"
        yield value_fault(field, band, problem, "make it wider, or the windows longer")
    top, bands, bins = features.envelope_top, features.envelope_bands, top_bin(grid, features)
    if top > half * (1 + 1e-9):
        problem = f"the highest frequency of a window is {half:.6g}"
        yield value_fault(("features", "envelope_top"), top, problem, "write less")
    elif top and bands > bins:
        problem = f"there are {bins} frequencies up to it, {grid.rate / grid.length:.6g} apart, "
        problem += f"for {bands} bands"
        remedy = "write more, fewer envelope_bands, or make the windows longer"
        yield value_fault(("features", "envelope_top"), top, problem, remedy)
    else:
        yield from _bands_faults(job, "envelope_bands", bins)

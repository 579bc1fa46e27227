# SPDX-License-Identifier: Apache-2.0
"""From a window to its prediction: what fedmill adds to a bare call of ONNX Runtime, and in memory.

The bare call is a session of its own, with the library's defaults but one thread, on the
self-contained ONNX file of the same model and weights. Both score the same windows in turns.
Memory is that of a daemon that has one job, and of one that has several.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from tests.bench.fleet import RATE_HZ
from tests.bench.harness import Figure, at_most, figure, folder
from tests.bench.memory import LENGTH, MODEL
from tests.bench.prepared import resident

from fedmill_agent.inference.backlog import Backlog
from fedmill_agent.inference.options import InferenceSection
from fedmill_agent.inference.scored import Describe
from fedmill_agent.inference.scorer import Scorer
from fedmill_agent.uncertainty.calibration import describe
from fedmill_shared.clock import SystemClock
from fedmill_shared.job import Gru, Job, Labels, Mlp, Model, Signal, Task
from fedmill_shared.job import Window as WindowSection
from fedmill_shared.log import get_logger
from fedmill_shared.onnx_session import OnnxSession
from fedmill_shared.signals.preparation import Preparation
from fedmill_shared.signals.windows import Window

SUMMARY = "window to prediction, relative to a bare call of ONNX Runtime; memory for each job"
RATIO_LIMIT = 1.3
JOBS = 3
RSS_LIMIT = 75.0
FURTHER_LIMIT = 20.0
CASES: dict[str, tuple[Model, int, int]] = {
    "wdcnn": (MODEL, 1, 1024),
    "mlp": (Mlp(), 14, 45),
    "gru": (Gru(), 14, 45),
}
"""Model, signals and window length: a vibration model, and two for slow process signals."""

INT8 = "int8"
"""Ends the name of what is measured in that form: the bare call is of the int8 graph, too."""

WARM_UP = 20
Item = TypeVar("Item")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the bench."""
    parser.add_argument("--windows", type=int, default=2000, help="windows to score")
    parser.add_argument("--seconds", type=float, default=15.0, help="scoring before memory is read")
    parser.add_argument("--no-memory", action="store_true", help="measure time only")
    parser.add_argument("--folder", type=Path, help="work here and leave the files")


def run(options: argparse.Namespace) -> list[Figure]:
    """Score the same windows in each way, in turns; then look at the memory of daemons.

    Raises:
        FedmillError: a daemon does not score.
    """
    count = max(1, options.windows)
    times = [each for name in CASES for each in latency(name, *CASES[name], count)]
    times += latency(f"wdcnn {INT8}", *CASES["wdcnn"], count)
    return times if options.no_memory else [*times, *_memory(options)]


def latency(name: str, model: Model, signals: int, length: int, count: int) -> list[Figure]:
    """How long ``count`` windows (signals, length) take, beside a bare call."""
    job = Job(
        job=Task(name=f"bench-{name.replace(' ', '-')}"),
        signals=[Signal(name=f"signal-{i}") for i in range(signals)],
        window=WindowSection(length=length),
        labels=Labels(classes=["normal", "outer", "inner", "ball"]),
        model=model,
    )
    windows = _windows(signals, length, count)
    session, bare = _quantised(job, windows) if name.endswith(INT8) else _sessions(job)
    ways: list[Callable[[Window], object]] = [
        lambda window: bare.run(None, {"windows": window.values[None]}),
        lambda window: session.run(window.values[None]),
        _path(session),
        _path(session, lambda _version, outputs: describe(job, outputs, None)),
        _prepared(job, _path(session)),
    ]
    for window in windows[:WARM_UP]:
        for way in ways:
            way(window)
    floor, own, scored, sure, complete = interleaved(ways, windows)
    told = "window to prediction"
    return [
        figure(f"{name}: bare call, p50", percentile(floor, 50), "us"),
        figure(f"{name}: bare call, p99", percentile(floor, 99), "us"),
        figure(f"{name}: {told}, p50", percentile(scored, 50), "us"),
        figure(f"{name}: {told}, p99", percentile(scored, 99), "us"),
        at_most(f"{name}: {told} / bare call, p50", ratio(scored, floor), "1", RATIO_LIMIT),
        figure(f"{name}: {told} / bare call, p99", _of(scored, floor, 99), "1"),
        figure(f"{name}: unbound session / bare call, p50", ratio(own, floor), "1"),
        figure(f"{name}: with its probability / bare call, p50", ratio(sure, floor), "1"),
        figure(f"{name}: with its quality check / bare call, p50", ratio(complete, floor), "1"),
    ]


def percentile(times: NDArray[np.int64], share: float) -> float:
    """Microseconds that ``share`` of 100 ``times`` (ns) do not exceed."""
    return float(np.percentile(times, share)) / 1e3


def _of(times: NDArray[np.int64], floor: NDArray[np.int64], share: float) -> float:
    return percentile(times, share) / max(1e-3, percentile(floor, share))


def _path(session: OnnxSession, sure: Describe | None = None) -> Callable[[Window], object]:
    """What the daemon does with a window in hand: its turn, the model, a prediction."""
    clock, log = SystemClock(), get_logger()
    scorer = Scorer(clock, log)
    scorer.swap("bench", session)
    scorer.describe(sure)
    backlog = Backlog(scorer, InferenceSection(deadline_seconds=60.0), clock, log)

    def path(window: Window) -> object:
        backlog.add((window,), clock.monotonic())
        return backlog.score()

    return path


def _prepared(job: Job, path: Callable[[Window], object]) -> Callable[[Window], object]:
    """The same, with the window's quality looked at before."""
    preparation = Preparation.of(job.signals, job.cleaning)

    def both(window: Window) -> object:
        prepared = preparation.apply(window)
        return path(prepared.window) if prepared.usable else []

    return both


def _memory(options: argparse.Namespace) -> list[Figure]:
    jobs = [_live(number) for number in range(JOBS)]
    with folder(options.folder) as place:
        one = resident(place / "one", jobs[:1], options.seconds)
        all_of_them = resident(place / "several", jobs, options.seconds)
    further = (all_of_them - one) / (JOBS - 1)
    return [
        at_most("agent RSS, one job", one, "MiB", RSS_LIMIT),
        figure(f"agent RSS, {JOBS} jobs", all_of_them, "MiB"),
        at_most("agent RSS, each further job", further, "MiB", FURTHER_LIMIT),
    ]


def _live(number: int) -> Job:
    """A job that scores the simulated rig, with a model of its own."""
    return Job(
        job=Task(name=f"bench-{number}"),
        signals=[Signal(name="vibration", unit="g", rate_hz=RATE_HZ)],
        window=WindowSection(length=LENGTH),
        labels=Labels(classes=["normal", "outer"]),
        model=MODEL,
    )


def interleaved(
    ways: Sequence[Callable[[Item], object]],
    items: Sequence[Item],
    clock: Callable[[], int] = perf_counter_ns,
) -> NDArray[np.int64]:
    """Nanoseconds (ways, items); which way goes first rotates, so that none has the warm cache."""
    times = np.zeros((len(ways), len(items)), np.int64)
    for index, item in enumerate(items):
        for turn in range(len(ways)):
            chosen = (index + turn) % len(ways)
            started = clock()
            ways[chosen](item)
            times[chosen, index] = clock() - started
    return times


def ratio(times: NDArray[np.int64], floor: NDArray[np.int64]) -> float:
    """Median over the pairs of ``times / floor``, each (items,)."""
    return float(np.median(times / np.maximum(floor, 1)))


def _windows(signals: int, length: int, count: int) -> list[Window]:
    generator = np.random.default_rng(0)
    return [
        Window("run", "unit", 0, 1, generator.normal(size=(signals, length)).astype("f4"), 1.0, i)
        for i in range(count)
    ]


def _version(job: Job) -> tuple[bytes, NDArray[np.float32]]:
    """Template and weights of a model that has learned nothing."""
    import torch

    from fedmill_coordinator.registry.template import export_template
    from fedmill_shared.models import build, initial_vector
    from fedmill_shared.models.normaliser import identity

    torch.set_num_threads(1)
    return export_template(job, build(job, 0)), initial_vector(job, identity(job), 0)


def _quantised(job: Job, windows: Sequence[Window]) -> tuple[OnnxSession, Any]:
    """The int8 session of an agent, with its guard, and the bare session below it."""
    from fedmill_agent.inference.int8.calibration import Extremes
    from fedmill_agent.inference.int8.guarded import GuardedSession
    from fedmill_coordinator.registry.quantised import quantise
    from fedmill_shared.models.quantised import bind, ranges_session, unpack_quantised

    template, weights = _version(job)
    form = unpack_quantised(quantise(template) or b"")
    seen = np.stack([window.values for window in windows])
    extremes = Extremes.of(ranges_session(form, weights), form, [seen])
    int8 = bind(form, weights, extremes.scales()[0])
    plain = OnnxSession.from_template(template, weights)
    return GuardedSession(int8, plain, extremes.limits()), int8._session


def _sessions(job: Job) -> tuple[OnnxSession, Any]:
    """The session of an agent, and a bare one of the same version."""
    import onnxruntime  # after fedmill_shared.onnx_session, which keeps it from phoning home

    from fedmill_coordinator.registry.export import self_contained

    template, weights = _version(job)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    bare = onnxruntime.InferenceSession(
        self_contained(template, weights), settings, providers=["CPUExecutionProvider"]
    )
    return OnnxSession.from_template(template, weights), bare

# SPDX-License-Identifier: Apache-2.0
"""From a window to its prediction: what fedmill adds to a bare call of ONNX Runtime.

The bare call is a session of its own, with the library's defaults but one thread, on the
self-contained ONNX file of the same model and weights.
"""

import argparse
from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from tests.bench.harness import Figure, at_most, figure
from tests.bench.memory import MODEL

from fedmill_agent.inference.scorer import Scorer
from fedmill_shared.clock import SystemClock
from fedmill_shared.job import Gru, Job, Labels, Mlp, Model, Signal, Task
from fedmill_shared.job import Window as WindowSection
from fedmill_shared.onnx_session import OnnxSession
from fedmill_shared.signals.preparation import Preparation
from fedmill_shared.signals.windows import Window

SUMMARY = "window to prediction, relative to a bare call of ONNX Runtime"
RATIO_LIMIT = 1.3
CASES: dict[str, tuple[Model, int, int]] = {
    "wdcnn": (MODEL, 1, 1024),
    "mlp": (Mlp(), 14, 45),
    "gru": (Gru(), 14, 45),
}
"""Model, signals and window length: a vibration model, and two for slow process signals."""

WARM_UP = 20
Item = TypeVar("Item")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the bench."""
    parser.add_argument("--windows", type=int, default=2000, help="windows to score")


def run(options: argparse.Namespace) -> list[Figure]:
    """Score the same windows in each way, one after the other."""
    return [each for name in CASES for each in _case(name, *CASES[name], max(1, options.windows))]


def _case(name: str, model: Model, signals: int, length: int, count: int) -> list[Figure]:
    job = Job(
        job=Task(name=f"bench-{name}"),
        signals=[Signal(name=f"signal-{i}") for i in range(signals)],
        window=WindowSection(length=length),
        labels=Labels(classes=["normal", "outer", "inner", "ball"]),
        model=model,
    )
    session, bare = _sessions(job)
    scorer = Scorer(SystemClock())
    scorer.swap("bench", session)
    windows = _windows(signals, length, count)
    preparation = Preparation.of(job.signals, job.cleaning)

    def pipeline(window: Window) -> object:
        prepared = preparation.apply(window)
        return scorer.score([prepared.window]) if prepared.usable else []

    ways: list[Callable[[Window], object]] = [
        lambda window: bare.run(None, {"windows": window.values[None]}),
        lambda window: session.run(window.values[None]),
        lambda window: scorer.score([window]),
        pipeline,
    ]
    for window in windows[:WARM_UP]:
        for way in ways:
            way(window)
    times = interleaved(ways, windows)
    floor, own, scored, complete = times
    limited = at_most if name == "wdcnn" else _unlimited
    return [
        figure(f"{name}: bare call, median", float(np.median(floor)) / 1e3, "us"),
        figure(f"{name}: our session / bare call", ratio(own, floor), "1"),
        limited(
            f"{name}: window to prediction / bare call", ratio(scored, floor), "1", RATIO_LIMIT
        ),
        figure(f"{name}: with its quality check / bare call", ratio(complete, floor), "1"),
    ]


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


def _unlimited(name: str, value: float, unit: str, _limit: float) -> Figure:
    return figure(name, value, unit)


def _windows(signals: int, length: int, count: int) -> list[Window]:
    generator = np.random.default_rng(0)
    return [
        Window("run", "unit", 0, 1, generator.normal(size=(signals, length)).astype("f4"), 1.0, i)
        for i in range(count)
    ]


def _sessions(job: Job) -> tuple[OnnxSession, Any]:
    """The session of an agent, and a bare one of the same version."""
    import onnxruntime  # after fedmill_shared.onnx_session, which keeps it from phoning home
    import torch

    from fedmill_coordinator.registry.export import self_contained
    from fedmill_coordinator.registry.template import export_template
    from fedmill_shared.models import build, initial_vector
    from fedmill_shared.models.normaliser import identity

    torch.set_num_threads(1)
    template = export_template(job, build(job, 0))
    weights = initial_vector(job, identity(job), 0)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    bare = onnxruntime.InferenceSession(
        self_contained(template, weights), settings, providers=["CPUExecutionProvider"]
    )
    return OnnxSession.from_template(template, weights), bare

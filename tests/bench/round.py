# SPDX-License-Identifier: Apache-2.0
"""Latency of a round: everything but the learning. Real broker, processes and warm trainers."""

import argparse
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tests.bench.fleet import CLASSES, Fleet, Usage, fleet, rig_plan, usage
from tests.bench.harness import Figure, at_most, figure, folder

from fedmill_coordinator.store.records import RoundRecord
from fedmill_shared.errors import UsageError
from fedmill_shared.job import Mlp
from fedmill_shared.models.manifest import LEARNED

SUMMARY = "latency of a round with near-zero local work, its bytes and its CPU time"
LENGTH = 256
WARM_UP = 10
LATENCY_LIMIT = 0.25
SIZE_TOLERANCE = 0.02
SAMPLE_SECONDS = 0.25
Sample = tuple[int, Usage]
"""Closed rounds, and what they have used."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the bench."""
    parser.add_argument("--agents", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=60, help=f"the first {WARM_UP} do not count")
    parser.add_argument("--params", type=int, default=100_000, help="parameters, within 2 %%")
    parser.add_argument("--folder", type=Path, help="work here and leave the files")


def run(options: argparse.Namespace) -> list[Figure]:
    """Run the rounds.

    Raises:
        UsageError: too few rounds or agents, or a size that no model has.
        FedmillError: the federation failed.
    """
    if options.rounds < WARM_UP + 2 or options.agents < 1:
        raise UsageError(f"at least {WARM_UP + 2} --rounds and one agent are needed")
    model = Mlp(hidden=widths(options.params))
    plan = rig_plan(
        "bench-round",
        model,
        agents=options.agents,
        length=LENGTH,
        rounds=options.rounds,
        live=False,
    )
    with folder(options.folder) as place, fleet(plan, place) as running:
        before, after = _watch(running)
        rounds = running.store.rounds(plan.job.name)
        layout = running.manifest()
    learned = sum(stop - start for start, stop in layout.ranges(LEARNED))
    return [
        *latency_figures(latencies(rounds)),
        figure("parameters", learned, "1"),
        *byte_figures(rounds, options.agents),
        *usage_figures(before, after),
    ]


def widths(params: int) -> list[int]:
    """Hidden widths of a three-layer perceptron with about ``params`` parameters.

    Raises:
        UsageError: there is none within 2 %.
    """
    classes = len(CLASSES)
    choices = []
    for second in range(4, 65):
        first = round((params - (second + 1) * classes - second) / (LENGTH + 1 + second))
        size = first * (LENGTH + 1 + second) + second + (second + 1) * classes
        if 1 <= first <= 4096:
            choices.append((abs(size - params), [first, second]))
    error, best = min(choices, default=(params, []))
    if error > SIZE_TOLERANCE * params:
        raise UsageError(f"--params {params}: no model has that size", remedy="2000 to 1300000")
    return best


def latencies(rounds: Sequence[RoundRecord]) -> NDArray[np.float64]:
    """Seconds from the opening of each round to that of the next, without the warm-up."""
    opened = [record.opened_ns for record in rounds if record.round > WARM_UP]
    return np.array([later - earlier for earlier, later in pairwise(opened)], np.float64) / 1e9


def latency_figures(seconds: NDArray[np.float64]) -> list[Figure]:
    """The distribution of the latencies."""
    return [
        at_most("round latency p50", float(np.median(seconds)), "s", LATENCY_LIMIT),
        figure("round latency p95", float(np.percentile(seconds, 95)), "s"),
        figure("round latency min", float(seconds.min()), "s"),
        figure("rounds measured", len(seconds), "1"),
    ]


def byte_figures(rounds: Sequence[RoundRecord], agents: int) -> list[Figure]:
    """Bytes of topics and payloads."""
    counted = [record for record in rounds if record.round > WARM_UP]
    shares = agents * len(counted)
    up = sum(record.uplink_bytes for record in counted)
    down = sum(record.downlink_bytes for record in counted)
    return [
        figure("uplink per agent and round", up / shares, "B"),
        figure("downlink per agent and round", down / shares, "B"),
    ]


def usage_figures(before: Sample, after: Sample) -> list[Figure]:
    """CPU time of a round and memory by kind of process, and how busy the machine was otherwise."""
    (first, early), (last, late) = before, after
    rounds = max(1, last - first)
    spent = {
        group: (late.cpu_seconds[group] - early.cpu_seconds[group]) / rounds
        for group in late.cpu_seconds
    }
    others = late.busy_seconds - early.busy_seconds - sum(spent.values()) * rounds
    elapsed = max(1e-9, late.elapsed - early.elapsed)
    return [
        figure("CPU per round, all", sum(spent.values()), "s"),
        *(figure(f"CPU per round, {group}", value, "s") for group, value in spent.items()),
        figure("processors busy with other work", others / elapsed, "1"),
        *(
            figure(f"largest RSS, {group}", value / 2**20, "MiB")
            for group, value in late.resident_bytes.items()
        ),
    ]


def _watch(running: Fleet) -> tuple[Sample, Sample]:
    """The first sample after the warm-up, and the last before the job's final evaluation."""
    running.wait("warm-up", lambda: running.closed() >= WARM_UP)
    groups = running.groups()
    before = after = running.closed(), usage(groups)

    def done() -> bool:
        nonlocal after
        closed = running.closed()
        if closed < running.job.federation.rounds:
            after = closed, usage(groups)
        return running.finished()

    running.wait("rounds", done, poll=SAMPLE_SECONDS)
    return before, after

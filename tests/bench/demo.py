# SPDX-License-Identifier: Apache-2.0
"""What federation gains on recordings: local-only, federated and pooled over several seeds."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, pstdev

import msgspec
from tests.bench.harness import Figure, at_least, at_most, child, figure, folder

from fedmill_coordinator.demo.processes import program
from fedmill_coordinator.demo.report import AgentRow, Report
from fedmill_shared.errors import FedmillError, UsageError

SUMMARY = "accuracy or error of local-only, federated and pooled models on recordings"
ACCURACY_GAP, RMSE_GAP = 0.02, 0.10
FD001_RMSE = 14.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the bench."""
    parser.add_argument("--data", type=Path, help="recordings; default: the built-in rig")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="work here and leave the files")


def run(options: argparse.Namespace) -> list[Figure]:
    """Run ``fedmill demo`` once for each seed.

    Raises:
        UsageError: no seeds, or no such folder.
        FedmillError: a demo failed.
    """
    if options.seeds < 1 or (options.data is not None and not options.data.is_dir()):
        raise UsageError(f"--seeds {options.seeds} or --data {options.data} is impossible")
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    reports = {}
    with folder(options.folder) as place:
        for seed in seeds:
            print(f"seed {seed} ...", file=sys.stderr)
            reports[seed] = _demo(options.data, seed, place)
    capped = options.data is not None and any(options.data.rglob("train_FD001*"))
    return figures_of(reports, fd001=capped)


def figures_of(reports: Mapping[int, Report], *, fd001: bool) -> list[Figure]:
    """The figures of each seed with their targets, then mean and spread over the seeds."""
    figures: list[Figure] = []
    for seed, report in reports.items():
        figures += [
            msgspec.structs.replace(each, name=f"seed {seed}: {each.name}")
            for each in of_one(report, fd001=fd001)
        ]
    columns = [of_one(report, fd001=fd001) for report in reports.values()]
    for same in zip(*columns, strict=True):
        values = [each.value for each in same]
        figures.append(figure(f"mean: {same[0].name}", mean(values), same[0].unit))
        figures.append(figure(f"spread: {same[0].name}", pstdev(values), same[0].unit))
    return figures


def of_one(report: Report, *, fd001: bool) -> list[Figure]:
    """The figures of one demo."""
    overall, metric = report.overall, report.overall.metric
    unit = "1" if metric == "accuracy" else "label unit"
    wire = max(1, report.uplink_bytes + report.downlink_bytes)
    federated = figure(f"{metric} federated", overall.federated, unit)
    if fd001:
        federated = at_most(federated.name, overall.federated, unit, FD001_RMSE)
    return [
        figure(f"{metric} local-only", overall.local_only, unit),
        federated,
        figure(f"{metric} pooled", overall.pooled, unit),
        _gap(overall),
        at_least(
            f"plants where federated beats local-only, of {len(report.agents)}",
            beaten(report.agents),
            "1",
            len(report.agents),
        ),
        figure("duration of the federation", report.seconds, "s"),
        figure("uplink", report.uplink_bytes / 1e6, "MB"),
        figure("downlink", report.downlink_bytes / 1e6, "MB"),
        figure("bytes of fp32 / bytes sent", report.fp32_bytes / wire, "1"),
        *_last(report.last_of_run),
        *_details(report),
    ]


def beaten(rows: Sequence[AgentRow]) -> int:
    """Plants whose held-out windows the federated model predicts better than the plant's own."""
    return sum(
        row.federated > row.local_only
        if row.metric == "accuracy"
        else row.federated < row.local_only
        for row in rows
    )


def _gap(overall: AgentRow) -> Figure:
    if overall.metric == "accuracy":
        gap = overall.pooled - overall.federated
        return at_most("gap to pooled", gap, "1", ACCURACY_GAP)
    return at_most("gap to pooled", overall.federated / overall.pooled - 1.0, "1", RMSE_GAP)


def _last(row: AgentRow) -> list[Figure]:
    """The three models on the last window of each run, where remaining life is usually judged."""
    arms = {"local-only": row.local_only, "federated": row.federated, "pooled": row.pooled}
    return [figure(f"last of run: {row.metric} {arm}", v, "") for arm, v in arms.items()]


def _details(report: Report) -> list[Figure]:
    """What else is known of the federated model; the recall of each class would be too much."""
    return [
        figure(f"{scope.replace('_', ' ')}: {name} federated", value, "")
        for scope, arms in report.details.items()
        for name, value in arms["federated"].items()
        if name != report.overall.metric and not name.startswith("recall_")
    ]


def _demo(data: Path | None, seed: int, place: Path) -> Report:
    output = place / f"report-{seed}.json"
    source = ["--data", str(data.resolve())] if data is not None else []
    command = program(
        "fedmill_coordinator", "demo", *source, "--seed", str(seed), "--json",
        "--out", place / f"run-{seed}",
    )  # fmt: skip
    with child(command, output) as process:
        code = process.wait()
    told = output.read_bytes().splitlines()
    if code or not told:
        log = output.with_suffix(".log").read_text(errors="replace").strip().splitlines()
        raise FedmillError(
            f"demo of seed {seed} ended with exit code {code}: {log[-1] if log else 'no output'}"
        )
    return msgspec.json.decode(told[-1], type=Report)

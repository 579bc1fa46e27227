# SPDX-License-Identifier: Apache-2.0
"""What each plant reaches alone, and what all would reach if their data could be pooled."""

import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from msgspec import json

from fedmill_coordinator.demo.layout import Layout
from fedmill_coordinator.demo.processes import program
from fedmill_shared.errors import Interrupted, TrainerError
from fedmill_shared.metrics import merge_all, primary
from fedmill_shared.metrics.score import Score

WORKERS = 2
POOLED = "pooled"


@dataclass(frozen=True, slots=True)
class Baselines:
    """Scores by agent."""

    local_only: dict[str, Score]
    pooled: dict[str, Score]

    def merged(self) -> dict[str, float]:
        """The metric of each arm over all plants' held-out windows."""
        arms = {"local-only": self.local_only, "pooled": self.pooled}
        return {
            name: primary(merge_all([score.statistic for score in scores.values()]))[1]
            for name, scores in arms.items()
        }


class Fits:
    """Owns the running ``fedmill-agent fit`` processes, so that they can be ended."""

    def __init__(self, stopped: Callable[[], bool]) -> None:
        """Nothing runs yet; ``stopped`` tells when nothing more is wanted."""
        self._stopped = stopped
        self._over = False
        self._children: set[subprocess.Popen[bytes]] = set()

    def run(self, layout: Layout, done: Callable[[str], None]) -> Baselines:
        """Train the baselines, two at a time; ``done`` hears the name of each that is ready.

        Raises:
            Interrupted: it was stopped.
            TrainerError: one of them failed.
        """
        configs = layout.agents
        # The pooled one takes longest, so it goes first.
        works = {POOLED: list(configs.values())} | {a: [path] for a, path in configs.items()}
        with ThreadPoolExecutor(WORKERS) as pool:
            futures = {
                name: pool.submit(self._fit, layout.job, paths, name, done)
                for name, paths in works.items()
            }
            try:
                scores = {name: future.result() for name, future in futures.items()}
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
                self.stop()
        return Baselines({a: scores[a][a] for a in configs}, scores[POOLED])

    def stop(self) -> None:
        """End what still runs, and what is just being started."""
        self._over = True
        for child in list(self._children):
            child.kill()

    def _fit(
        self, job: Path, configs: Sequence[Path], name: str, done: Callable[[str], None]
    ) -> dict[str, Score]:
        also = [part for path in configs[1:] for part in ("--also", str(path))]
        child = subprocess.Popen(
            program("fedmill_agent", "fit", configs[0], "--job", job, *also),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._children.add(child)
        output, errors = self._wait(child)
        self._children.discard(child)
        if child.returncode:
            lines = errors.decode(errors="replace").strip().splitlines()
            raise TrainerError(f"baseline {name}: {lines[-1] if lines else child.returncode}")
        done(name)
        scores = [json.decode(line, type=Score) for line in output.splitlines()]
        return {score.agent: score for score in scores}

    def _wait(self, child: "subprocess.Popen[bytes]") -> tuple[bytes, bytes]:
        while True:
            try:
                return child.communicate(timeout=0.25)
            except subprocess.TimeoutExpired:
                if self._over or self._stopped():
                    child.kill()
                    child.communicate()
                    raise Interrupted("the baselines were stopped") from None

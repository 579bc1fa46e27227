# SPDX-License-Identifier: Apache-2.0
"""Baselines: one offline training for each plant and one for all, as child processes."""

import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from msgspec import json

from fedmill_coordinator.demo import baselines as module
from fedmill_coordinator.demo.baselines import Fits
from fedmill_coordinator.demo.layout import Layout
from fedmill_shared.errors import Interrupted, TrainerError
from fedmill_shared.metrics.classification import ClassificationStatistic
from fedmill_shared.metrics.score import Score

STATISTIC = ClassificationStatistic(2, (3, 1, 0, 0), 1.0)

RESULT = {"windows": 4, "metrics": {"accuracy": 0.75}, "statistic": STATISTIC, "last": STATISTIC}
# Prints what `fedmill-agent fit` does: a line for each configuration, here named by its folder.
FIT = """
import json, sys
from pathlib import Path
command, first, _, _, *also = sys.argv[1:]
assert command == "fit" and set(also[::2]) <= {"--also"}, sys.argv
for path in [first, *also[1::2]]:
    print(json.dumps({"agent": Path(path).parent.name, **RESULT}))
""".replace("RESULT", json.encode(RESULT).decode())
FAIL = "import sys; print('cause', file=sys.stderr); sys.exit('fedmill-agent: no windows')"
HANG = "import time; time.sleep(600)"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Three agents; the files are never opened."""
    agents = {name: tmp_path / name / "agent.toml" for name in ("a", "b", "c")}
    return Layout(tmp_path, tmp_path / "job.toml", tmp_path / "c.toml", agents, tmp_path)


@pytest.fixture
def fit_is(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Replace the training by a script."""

    def replace(code: str) -> None:
        def program(name: str, *arguments: object) -> list[str]:
            assert name == "fedmill_agent"
            return [sys.executable, "-S", "-c", code, *map(str, arguments)]

        monkeypatch.setattr(module, "program", program)

    return replace


class TestFits:
    """All of them, or an error and none."""

    def test_every_arm(self, layout: Layout, fit_is: Callable[[str], None]) -> None:
        """Each agent alone, and all pooled; each is told once when it is ready."""
        fit_is(FIT)
        done: list[str] = []
        found = Fits(lambda: False).run(layout, done.append)
        assert sorted(done) == ["a", "b", "c", "pooled"]
        expected = {
            name: Score(
                agent=name,
                windows=4,
                metrics={"accuracy": 0.75},
                statistic=STATISTIC,
                last=STATISTIC,
            )
            for name in "abc"
        }
        assert found.local_only == found.pooled == expected
        assert found.merged() == {"local-only": 0.75, "pooled": 0.75}

    def test_one_that_fails(self, layout: Layout, fit_is: Callable[[str], None]) -> None:
        """Which one, and the last line it wrote."""
        fit_is(FAIL)
        with pytest.raises(TrainerError, match=r"baseline pooled: fedmill-agent: no windows"):
            Fits(lambda: False).run(layout, print)

    def test_the_others_end_with_it(self, layout: Layout, fit_is: Callable[[str], None]) -> None:
        """The trainings beside it are not waited for, and none is left."""
        fit_is(f"import sys\nif '--also' in sys.argv: {FAIL}\nelse: {HANG}")
        with pytest.raises(TrainerError):
            Fits(lambda: False).run(layout, print)
        assert not [p for p in psutil.Process().children() if "-S" in p.cmdline()]

    def test_stopped(self, layout: Layout, fit_is: Callable[[str], None]) -> None:
        """Ctrl-C ends them."""
        fit_is(HANG)
        with pytest.raises(Interrupted, match="were stopped"):
            Fits(lambda: True).run(layout, print)
        assert not [p for p in psutil.Process().children() if "-S" in p.cmdline()]

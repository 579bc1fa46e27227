# SPDX-License-Identifier: Apache-2.0
"""What is no number, and hostile files and models: drift goes on being noticed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from tests.agent.drift.kit import WIDTH, Plant, a_watched_job, steady
from tests.agent.drift.test_watch import armed

from fedmill_agent import kept
from fedmill_agent.drift import actions, charts, keeping
from fedmill_agent.drift.keeping import DriftState, KeptSignal, KeptTally, Matrix, matrix
from fedmill_agent.drift.watch import Watch
from fedmill_shared.errors import ModelError
from fedmill_shared.messages import Wish, decode, encode
from fedmill_shared.models.manifest import Manifest, Tensor

LINES = "reference_windows = 300\nblock_windows = 50\n"
INPUT = f'watch = ["input"]\n{LINES}'
Change = Callable[[DriftState], DriftState]


def nothing_said(rig: Plant, count: int) -> Any:
    """Windows of which the model says NaN."""
    scored = rig.scored(steady(9, count))
    features = np.full_like(scored.features, np.nan)
    return structs.replace(scored, outputs=np.full_like(scored.outputs, np.nan), features=features)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("signal", ["output", "representation"])
class TestNoNumbers:
    def test_one_window_does_not_blind_the_charts(self, tmp_path: Path, signal: str) -> None:
        """An average that has taken in a NaN would stay one; a shift behind it is noticed."""
        rig = Plant(a_watched_job(f'watch = ["{signal}"]\n{LINES}'), tmp_path)
        watch = armed(rig)
        watch.observe(nothing_said(rig, 3))
        watch.observe(rig.scored(steady(5, 300, shift=5.0)))
        assert watch.told().standing == "alarmed"
        assert all(np.isfinite(chart.statistic) for chart in watch.told().charts)
        rig.close()

    def test_nothing_is_learned_of_it(self, tmp_path: Path, signal: str) -> None:
        """A reference has numbers only."""
        rig = Plant(a_watched_job(f'watch = ["{signal}"]\n{LINES}'), tmp_path)
        watch = rig.watch()
        watch.observe(nothing_said(rig, 1))
        rig.settle(watch)
        watch.observe(nothing_said(rig, 200))
        watch.observe(rig.scored(steady(3, 300)))
        rig.settle(watch)
        assert watch.told().charts
        assert np.isfinite(watch._signals[signal].reference).all()
        rig.close()


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_wish_can_always_be_read(value: float) -> None:
    """One with a number that is none would be refused, and the agent would wait for an answer."""
    change = charts.Change("output-psi", "quiet", "alarmed", value, 4.5, 0, 50)
    wish = Wish(job="press", kind="round", evidence=actions.evidence(change))
    assert decode(encode(wish), Wish).evidence == {"limit": 4.5, "windows": 50.0}


def normalised(place: int, shape: tuple[int, ...]) -> Change:
    """Another shape of one part of the standardisation."""

    def change(state: DriftState) -> DriftState:
        parts = list(state.normaliser)
        parts[place] = matrix(np.zeros(shape))
        return structs.replace(state, normaliser=parts)

    return change


def charted(**fields: Any) -> Change:
    """Other fields of every chart of the input."""

    def change(state: DriftState) -> DriftState:
        signal = state.signals["input"]
        charts = [structs.replace(chart, **fields) for chart in signal.charts]
        return structs.replace(state, signals={"input": structs.replace(signal, charts=charts)})

    return change


def summed(name: str) -> Change:
    """Sums of other signals."""
    part = matrix(np.zeros(3))
    return lambda state: structs.replace(
        state, **{name: KeptTally(count=part, total=part, squares=part)}
    )


HOSTILE: dict[str, Change] = {
    "flat mean": normalised(0, (4,)),
    "wide mean": normalised(0, (1, 7)),
    "no condition": normalised(0, (0, 2)),
    "flat centroids": normalised(2, (0,)),
    "resolution": normalised(3, (5,)),
    "reference": summed("reference"),
    "recent": summed("recent"),
    "column": charted(column=99),
    "state": charted(state=matrix(np.zeros((2, 3, 4)))),
    "no rows": lambda state: structs.replace(
        state, signals={"input": KeptSignal(reference=matrix(np.zeros((0, 4))), charts=[])}
    ),
}


class TestFile:
    def changed(self, rig: Plant, watch: Watch, change: Change) -> Watch:
        """The watch after a restart on a file that was written by somebody else."""
        watch.keep()
        path = rig.folder / keeping.FILE
        state = kept.find(path, DriftState, watch._layout).kept
        assert state is not None
        kept.keep(path, change(state))
        return rig.watch()

    @pytest.mark.parametrize("what", HOSTILE)
    def test_what_does_not_fit_is_learned_anew(self, tmp_path: Path, what: str) -> None:
        """None of it is used, and it ends nothing."""
        rig = Plant(a_watched_job(INPUT), tmp_path)
        watch = self.changed(rig, armed(rig), HOSTILE[what])
        assert rig.log.of("drift.set_aside")
        watch.told()
        watch.observe(rig.scored(steady(3, 1)))
        rig.settle(watch)
        assert len(watch.told().charts) == 3
        watch.observe(rig.scored(steady(5, 100, shift=3.0)))
        assert watch.told().standing == "alarmed"
        rig.close()

    @pytest.mark.parametrize("field", ["recent_left", "collecting"])
    def test_less_than_nothing_is_left(self, tmp_path: Path, field: str) -> None:
        """Counting down from there never ends."""
        rig = Plant(a_watched_job(INPUT), tmp_path)
        watch = self.changed(rig, armed(rig), lambda state: structs.replace(state, **{field: -1}))
        assert rig.log.of("drift.set_aside")
        assert watch.told().charts == []
        rig.close()

    def test_a_shape_beyond_all_numbers(self, tmp_path: Path) -> None:
        """What numpy cannot count, it refuses."""
        rig = Plant(a_watched_job(INPUT), tmp_path)
        huge = Matrix((0, 2**62, 2**62), b"")
        watch = self.changed(
            rig, armed(rig), lambda state: structs.replace(state, normaliser=[huge] * 4)
        )
        assert rig.log.of("drift.set_aside")
        watch.observe(rig.scored(steady(3, 1)))
        rig.close()


class TestModel:
    def test_a_layout_for_other_signals(self, tmp_path: Path) -> None:
        """It is told as a fault of the model; scoring goes on with it."""
        rig = Plant(a_watched_job(INPUT), tmp_path)
        mean = Tensor("standardise.mean", (4,), 0, "buffer")
        layout = Manifest((mean, Tensor("head.weight", (2, WIDTH), 4, "head")))
        acting = replace(rig.acting(), model=lambda: (layout, rig.vector))
        rig.acting = lambda: acting  # type: ignore[method-assign]
        with pytest.raises(ModelError, match="none of the job's inputs"):
            rig.watch().observe(rig.scored(steady(3, 1)))
        rig.close()

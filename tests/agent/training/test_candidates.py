# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from tests.agent.kit import choosing, plain
from tests.agent.training.conftest import fill, write_canary, write_weights

from fedmill_agent import kept, sealed
from fedmill_agent.home import leave
from fedmill_agent.inference.served import CANDIDATES, MODEL, ServedState
from fedmill_agent.store.windows import WindowStore
from fedmill_agent.training import candidates, protocol
from fedmill_agent.training.candidates import AloneState, best
from fedmill_agent.training.worker import Worker, examples_of
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import DataError, ModelError, StoreError
from fedmill_shared.job import Job, Learning
from fedmill_shared.learning import local
from fedmill_shared.learning.alone import fit_alone, starting_vector
from fedmill_shared.learning.home import NOTHING, Home
from fedmill_shared.learning.tuning import tune
from fedmill_shared.metrics import Statistic, accuracy
from fedmill_shared.models import build, initial_vector
from fedmill_shared.models.flat import FlatModel
from fedmill_shared.models.manifest import LEARNED
from fedmill_shared.seeds import seed_for
from fedmill_shared.tensors import unpack_tensor

Ask = Callable[..., Any]
FAST = Learning(learning_rate=0.05, batch_size=4, epochs=8)
JOB = choosing(learning=FAST)


@pytest.fixture
def folder(folder: Path) -> Path:
    """With 24 windows to choose by beside the others."""
    with WindowStore(
        folder / "w.sqlite", clock=ManualClock(), max_bytes=10**7, max_age_seconds=1e9
    ) as store:
        fill(store, "validation", 3)
    return folder


def a_model(job: Job = JOB) -> FlatModel:
    """The network of a job."""
    return FlatModel(build(job, 0))


def examples(folder: Path, split: str, job: Job = JOB) -> local.Examples:
    """Stored windows as tensors."""
    with WindowStore.reader(folder / "w.sqlite") as store:
        return examples_of(job, store.load(split, task=job.job.task))


def alone(folder: Path, job: Job = JOB) -> AloneState | None:
    """What the file with the local model holds."""
    return kept.look(folder / "alone.msgpack", AloneState, a_model(job).manifest.digest)


def served(folder: Path, job: Job = JOB) -> ServedState:
    """What the file with the choice holds."""
    state = kept.look(folder / "served", ServedState, a_model(job).manifest.digest)
    assert state is not None
    return state


def right(statistic: Statistic) -> float:
    """Share of windows whose class was found."""
    return accuracy(statistic)


class TestTrainAlone:
    def test_one_round_of_work_at_a_time(self, ask: Ask, folder: Path) -> None:
        """Asked three times it has had three, and once it has had enough nothing happens."""
        worker = Worker()
        told = [worker.answer(ask(protocol.TrainAlone, JOB, rounds=3)) for _ in range(5)]
        assert [answer.rounds for answer in told] == [1, 2, 3, 3, 3]
        state = alone(folder)
        assert state is not None
        model = a_model()
        start = starting_vector(JOB, model.manifest, np.fromfile(folder / "weights", "<f4"))
        model.load(start)
        fit_alone(model, JOB, examples(folder, "train"), rounds=range(1, 4), agent="a")
        assert state.vectors["alone"] == model.vector.tobytes()
        assert state.rounds == 3

    def test_goes_on_in_another_process(self, ask: Ask, folder: Path) -> None:
        """What lies on disk is all there is to it."""
        for rounds in (1, 2):
            Worker().answer(ask(protocol.TrainAlone, JOB, rounds=rounds))
        found = alone(folder)
        (folder / "alone.msgpack").unlink()
        worker = Worker()
        for _ in range(2):
            worker.answer(ask(protocol.TrainAlone, JOB, rounds=2))
        assert alone(folder) == found

    def test_the_federations_weights_are_not_in_it(self, ask: Ask, folder: Path) -> None:
        """Only its standardisation is, without which windows could not be compared."""
        worker = Worker()
        worker.answer(ask(protocol.TrainAlone, JOB))
        one = alone(folder)
        (folder / "alone.msgpack").unlink()
        vector = np.fromfile(folder / "weights", "<f4")
        vector[: a_model().manifest.count(LEARNED)] += 1.0
        vector.tofile(folder / "weights")
        worker.answer(ask(protocol.TrainAlone, JOB))
        assert alone(folder) == one
        vector[-1] *= 2.0
        vector.tofile(folder / "weights")
        (folder / "alone.msgpack").unlink()
        worker.answer(ask(protocol.TrainAlone, JOB))
        assert alone(folder) != one

    def test_begins_anew_where_the_federation_has(self, ask: Ask, folder: Path) -> None:
        """With more work behind it than the federation it would be no measure."""
        worker = Worker()
        first = worker.answer(ask(protocol.TrainAlone, JOB)), alone(folder)
        for _ in range(2):
            worker.answer(ask(protocol.TrainAlone, JOB, rounds=3))
        assert (worker.answer(ask(protocol.TrainAlone, JOB, rounds=1)), alone(folder)) == first

    def test_a_damaged_file_is_put_away(self, ask: Ask, folder: Path) -> None:
        """And told; the local model begins anew."""
        path = folder / "alone.msgpack"
        path.write_bytes(b"rust")
        answer = Worker().answer(ask(protocol.TrainAlone, JOB, rounds=5))
        assert (answer.rounds, answer.set_aside) == (1, str(path.with_suffix(".damaged")))

    def test_divergence_changes_nothing(self, ask: Ask, folder: Path) -> None:
        """The model of before is a candidate still."""
        Worker().answer(ask(protocol.TrainAlone, JOB))
        before = alone(folder)
        learning = Learning(optimiser="sgd", learning_rate=1e30, momentum=0.0, epochs=50)
        with pytest.raises(ModelError, match="diverged"):
            Worker().answer(ask(protocol.TrainAlone, choosing(learning=learning), rounds=2))
        assert alone(folder) == before

    def test_without_windows_there_is_none(self, ask: Ask, tmp_path: Path) -> None:
        """Nothing can be learned alone from nothing."""
        path = tmp_path / "empty.sqlite"
        WindowStore(path, clock=ManualClock(), max_bytes=10**7, max_age_seconds=1e9).close()
        with pytest.raises(DataError, match="no labelled training windows"):
            Worker().answer(ask(protocol.TrainAlone, JOB, store=str(path)))


class TestBest:
    @pytest.mark.parametrize(
        ("scores", "higher", "winner"),
        [
            ({"global": 0.9, "personal": 0.8, "local": 0.7}, True, "global"),
            ({"global": 0.7, "personal": 0.8, "local": 0.9}, True, "local"),
            ({"global": 0.7, "personal": 0.9, "local": 0.8}, True, "personal"),
            ({"global": 2.0, "personal": 1.5, "local": 3.0}, False, "personal"),
            ({"global": 0.9, "personal": 0.9, "local": 0.9}, True, "global"),
            ({"global": 0.8, "personal": 0.9, "local": 0.9}, True, "personal"),
            ({"personal": 0.5, "local": 0.5}, False, "personal"),
            ({"local": 0.1}, True, "local"),
            ({}, True, "global"),
        ],
    )
    def test_literal(self, scores: dict[str, float], winner: str, *, higher: bool) -> None:
        """The best score; of equal ones the common model, then the one fitted to the agent."""
        assert best(scores, higher_is_better=higher) == winner

    @pytest.mark.parametrize("higher", [True, False])
    def test_never_worse_than_any_other(self, *, higher: bool) -> None:
        """In whatever order they come, and whichever of them there are."""
        for count in (1, 2, 3):
            for names in combinations(CANDIDATES, count):
                for values in permutations((1.0, 2.0, 2.0), count):
                    scores = dict(zip(names, values, strict=True))
                    found = best(scores, higher_is_better=higher)
                    assert scores[found] == (max if higher else min)(values)
                    assert found == best(dict(reversed(scores.items())), higher_is_better=higher)


class TestChoose:
    def run(self, worker: Worker, ask: Ask, job: Job = JOB, **fields: Any) -> protocol.Chosen:
        """The candidates are made and compared."""
        answer = worker.answer(ask(protocol.Choose, job, **fields))
        assert isinstance(answer, protocol.Chosen)
        return answer

    def test_the_best_on_the_validation_windows_is_left(self, ask: Ask, folder: Path) -> None:
        """With its weights, and what torch says of the canary; the test windows are only told."""
        worker = Worker()
        for _ in range(6):
            worker.answer(ask(protocol.TrainAlone, JOB, rounds=6))
        answer = self.run(worker, ask)
        state = served(folder)
        assert set(answer.validation) == set(answer.candidates) == set(CANDIDATES)
        assert answer.served != "global"  # version 0 has learned nothing
        assert answer.validation[answer.served] == max(answer.validation.values()) > 0.6
        assert (state.candidate, state.version, state.number) == (answer.served, "c" * 64, 2)
        assert state.scores == answer.validation
        model, vector = a_model(), state.vector(MODEL)
        assert vector is not None
        model.load(vector)
        statistic, _ = local.evaluate(model, JOB, examples(folder, "validation"))
        assert right(statistic) == answer.validation[answer.served]
        statistic, _ = local.evaluate(model, JOB, examples(folder, "test"))
        assert statistic == answer.candidates[answer.served]
        expected = model.predict(write_canary(folder))
        assert unpack_tensor(state.outputs).tobytes() == expected.tobytes()

    def test_each_candidate_is_what_it_is_called(self, ask: Ask, folder: Path) -> None:
        """The version; the version after a round's work here; and the agent's alone."""
        worker = Worker()
        worker.answer(ask(protocol.TrainAlone, JOB, rounds=1))
        request = ask(protocol.Choose, JOB)
        model, train = a_model(), examples(folder, "train")
        made = candidates.candidates(request, JOB, model, train)
        assert list(made) == list(CANDIDATES)
        version = np.fromfile(folder / "weights", "<f4")
        assert made["global"].tobytes() == version.tobytes()
        state = alone(folder)
        assert state is not None
        assert made["local"].tobytes() == state.vectors["alone"]
        model.load(version)
        seed = seed_for("press", 2, "a", "tune")
        tuned = tune(model, JOB, train, round_=2, seed=seed, home=NOTHING)
        assert made["personal"].tobytes() == tuned.tobytes()

    def test_twice_the_same_file(self, ask: Ask, folder: Path) -> None:
        """The trainer may die behind its last word: it is asked again, and says the same."""
        first = self.run(Worker(), ask), (folder / "served").read_bytes()
        assert (self.run(Worker(), ask), (folder / "served").read_bytes()) == first

    def test_dittos_own_model_is_the_personal_one(self, ask: Ask, folder: Path) -> None:
        """It was trained all along; before its first round the version is fitted."""
        job = structs.replace(JOB, learning=structs.replace(FAST, ditto=0.5))
        manifest, path = a_model().manifest, folder / "home.msgpack"
        own = np.linspace(-1, 1, manifest.count(LEARNED), dtype=np.float32)
        request = ask(protocol.Choose, job, home=str(path))
        train = examples(folder, "train")
        fitted = candidates.candidates(request, job, a_model(), train)["personal"]
        leave(path, manifest, 1, before=NOTHING, after=Home(own=own))
        mine = candidates.candidates(request, job, a_model(), train)["personal"]
        assert manifest.gather(mine, LEARNED).tobytes() == own.tobytes()
        assert fitted.tobytes() != mine.tobytes()

    def test_the_common_one_has_the_agents_parts(self, ask: Ask, folder: Path) -> None:
        """It is compared as it scores."""
        job = structs.replace(JOB, learning=structs.replace(FAST, personal="head"))
        manifest, path = a_model().manifest, folder / "home.msgpack"
        head = np.full(manifest.count(("head",)), 0.25, np.float32)
        leave(path, manifest, 1, before=NOTHING, after=Home(personal=head))
        request = ask(protocol.Choose, job, home=str(path))
        made = candidates.candidates(request, job, a_model(), examples(folder, "train"))
        assert manifest.gather(made["global"], ("head",)).tobytes() == head.tobytes()

    def test_a_federation_that_is_good_is_served(self, ask: Ask, folder: Path) -> None:
        """No weights are left: those of the version are on the shelf, and the next ones follow."""
        model = a_model()
        model.load(initial_vector(JOB, plain(JOB), 1))
        fit_alone(model, JOB, examples(folder, "train"), rounds=range(1, 13), agent="a")
        model.vector.tofile(folder / "weights")
        answer = self.run(Worker(), ask)
        assert answer.served == "global"
        state = served(folder)
        assert (state.candidate, state.vectors, state.outputs) == ("global", {}, b"")

    def test_without_validation_windows_the_common_one(self, ask: Ask, folder: Path) -> None:
        """Nothing is chosen by windows that the agent does not have."""
        path = folder / "few.sqlite"
        with WindowStore(path, clock=ManualClock(), max_bytes=10**7, max_age_seconds=1e9):
            pass
        answer = self.run(Worker(), ask, store=str(path))
        assert (answer.served, answer.validation) == ("global", {})
        assert set(answer.candidates) == {"global"}
        assert (answer.last.count, served(folder).candidate) == (0, "global")

    def test_numbers(self, ask: Ask, folder: Path) -> None:
        """The smallest error wins; a candidate that gives no numbers does not stand."""
        job = choosing(task="regression", learning=FAST)
        path = folder / "numbers.sqlite"
        with WindowStore(path, clock=ManualClock(), max_bytes=10**7, max_age_seconds=1e9) as store:
            for seed, split in enumerate(("train", "validation", "test")):
                fill(store, split, seed, task="regression")
        write_weights(folder, job)
        request = {"store": str(path)}
        worker = Worker()
        worker.answer(ask(protocol.TrainAlone, job, rounds=1, **request))
        state = alone(folder, job)
        assert state is not None
        wild = np.frombuffer(state.vectors["alone"], "<f4").copy()
        wild[:60] = 3e38
        kept.keep(
            folder / "alone.msgpack",
            structs.replace(state, vectors=kept.bytes_of({"alone": wild})),
        )
        answer = self.run(worker, ask, job, **request)
        assert "local" not in answer.validation
        assert answer.served == min(answer.validation, key=lambda name: answer.validation[name])

    def test_a_missing_canary_leaves_the_old_choice(self, ask: Ask, folder: Path) -> None:
        """A model that nobody can check is not served."""
        self.run(Worker(), ask)
        before = (folder / "served").read_bytes()
        (folder / "canary").unlink()
        with pytest.raises(StoreError, match="canary: cannot be read"):
            self.run(Worker(), ask)
        assert (folder / "served").read_bytes() == before


class CrashError(Exception):
    """The power goes."""


class TestCrash:
    """Two rounds with all that an agent can keep, and a choice."""

    JOB = structs.replace(JOB, learning=structs.replace(FAST, personal="head", ditto=0.5))

    def script(self, ask: Ask, folder: Path) -> list[Any]:
        """What the daemon asks for, one after the other."""
        home = str(folder / "home.msgpack")
        alone = [ask(protocol.TrainAlone, self.JOB, rounds=n) for n in (1, 2)]
        train = [ask(protocol.Train, self.JOB, round=n, home=home) for n in (1, 2)]
        choice = ask(protocol.Choose, self.JOB, home=home)
        return [train[0], alone[0], train[1], alone[1], choice]

    def play(self, ask: Ask, folder: Path) -> tuple[list[Any], dict[str, bytes]]:
        """All of it; one that dies is started again and asked again. What was said and left."""
        worker, said = Worker(), []
        for request in self.script(ask, folder):
            try:
                answer = worker.answer(request)
            except CrashError:
                worker = Worker()
                answer = worker.answer(request)
            said.append(getattr(answer, "frame", None) or getattr(answer, "served", ""))
        names = ("home.msgpack", "alone.msgpack", "served")
        left = {name: (folder / name).read_bytes() for name in names}
        for name in names:
            (folder / name).unlink()
        return said, left

    @pytest.mark.parametrize("side", ["before", "after"])
    def test_kill_at_any_write_changes_nothing(
        self, ask: Ask, folder: Path, monkeypatch: pytest.MonkeyPatch, side: str
    ) -> None:
        """Whichever write it is, and on whichever side of it the power goes."""
        expected = self.play(ask, folder)
        write, count = sealed.write_atomic, 0
        for crash in range(5):
            count = 0

            def dying(path: Path, data: bytes, crash: int = crash) -> None:
                nonlocal count
                count += 1
                if side == "after" or count - 1 != crash:
                    write(path, data)
                if count - 1 == crash:
                    raise CrashError

            monkeypatch.setattr(sealed, "write_atomic", dying)
            found = self.play(ask, folder)
            # Behind its write a slice has been done, and is not done again.
            again = side == "before" or crash not in (1, 3)
            assert count == (6 if again else 5)
            assert found == expected

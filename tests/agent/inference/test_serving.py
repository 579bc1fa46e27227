# SPDX-License-Identifier: Apache-2.0
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from tests.agent.kit import LENGTH, Journal, Versions, a_job, choosing

from fedmill_agent import kept
from fedmill_agent.home import HOME_FILE, leave
from fedmill_agent.inference.deployment import Deployment
from fedmill_agent.inference.installing.around import Around
from fedmill_agent.inference.scorer import Scorer
from fedmill_agent.inference.served import MODEL, SERVED_FILE, ServedState
from fedmill_agent.inference.serving import Serving
from fedmill_agent.inference.shelf import VersionShelf
from fedmill_shared.clock import ManualClock
from fedmill_shared.job import Job, Learning
from fedmill_shared.learning.home import NOTHING, Home
from fedmill_shared.link.blocks import parse_block
from fedmill_shared.messages import BlobRequest
from fedmill_shared.models.manifest import version_of
from fedmill_shared.signals.windows import Window
from fedmill_shared.tensors import pack_tensor, unpack_tensor

OWN_HEAD = a_job(learning=Learning(personal="head"))


class Line:
    """A deployment with a job folder around it, and what its trainer would leave there."""

    def __init__(self, folder: Path, versions: Versions) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.versions = folder, versions
        self.architecture = versions.architecture
        self.journal = Journal()
        self.asked: list[BlobRequest] = []
        self.start()

    def start(self) -> None:
        """A new process on the same folder."""
        clock = ManualClock()
        self.scorer = Scorer(clock)
        self.serving = Serving(self.folder, self.versions.job, self.journal)
        self.deployment = Deployment(
            VersionShelf(self.folder / "versions"),
            self.scorer,
            self.serving,
            Around(self.versions.job, clock, self.journal),
            request=self.asked.append,
        )
        self.deployment.resume()

    def install(self) -> None:
        """The newest version comes."""
        self.deployment.announce(self.versions.notice(), retained=True)
        while self.asked:
            for block in self.versions.blocks(self.asked.pop(0)):
                self.deployment.receive(parse_block(block))

    def outputs(self) -> list[float]:
        """What scores says of a fixed window."""
        values = np.linspace(-1, 1, LENGTH, dtype=np.float32)[None]
        [prediction] = self.scorer.score([Window("r", "u", 0, 7, values, 1.0, 0)])
        assert prediction.version == self.scorer.version
        return prediction.outputs.tolist()

    def of(self, vector: np.ndarray) -> list[float]:
        """What torch says of the same window."""
        model = self.architecture.model
        model.load(vector)
        return model.predict(np.linspace(-1, 1, LENGTH, dtype=np.float32)[None, None])[0].tolist()

    def scores_with(self, vector: np.ndarray) -> bool:
        """Whether it is ``vector`` that scores, by its name and by what it says."""
        close = np.allclose(self.outputs(), self.of(vector), atol=1e-5)
        return close and self.scorer.version == version_of(vector)

    def vector(self, seed: int) -> np.ndarray:
        """A model of the agent's own."""
        learned = self.architecture.learned
        vector = self.versions.made[0].vector.copy()
        vector[:learned] = np.random.default_rng(seed).normal(0, 0.5, learned)
        return vector

    def choose(self, candidate: str, vector: np.ndarray | None = None, **fields: Any) -> None:
        """The trainer leaves a choice."""
        outputs = b""
        if vector is not None:
            model = self.architecture.model
            model.load(vector)
            outputs = pack_tensor(model.predict(unpack_tensor(self.architecture.canary)))
        state = ServedState(
            layout=self.architecture.manifest.digest,
            vectors=kept.bytes_of({MODEL: vector}),
            candidate=candidate,
            version=self.versions.newest.version,
            number=len(self.versions.made) - 1,
            scores={"global": 0.5, candidate: 0.75},
            outputs=outputs,
        )
        kept.keep(self.folder / SERVED_FILE, structs.replace(state, **fields))

    def chosen(self) -> None:
        """The trainer says that it has left one."""
        self.serving.changed()
        self.deployment.refresh()


def a_line(folder: Path, job: Job) -> Line:
    """A line with version 1 installed."""
    line = Line(folder / "job", Versions(job))
    line.install()
    line.versions.advance()
    line.install()
    return line


@pytest.fixture
def line(tmp_path: Path) -> Line:
    """One that chooses."""
    return a_line(tmp_path, choosing())


class TestChoice:
    @pytest.mark.parametrize("candidate", ["personal", "local"])
    def test_a_model_of_its_own_scores(self, line: Line, candidate: str) -> None:
        """From the moment the trainer has said so; versions that come do not change that."""
        assert line.scores_with(line.versions.newest.vector)
        assert line.serving.choice is None
        own = line.vector(1)
        line.choose(candidate, own)
        assert line.scores_with(line.versions.newest.vector)  # nobody has said so yet
        line.chosen()
        assert line.scores_with(own)
        choice = line.serving.choice
        assert choice is not None
        assert (choice.candidate, choice.number) == (candidate, 1)
        assert choice.scores == {"global": 0.5, candidate: 0.75}
        session = line.scorer.session
        line.versions.advance(seed=2)
        line.install()
        assert line.deployment.followed is not None
        assert line.deployment.followed.number == 2
        assert line.scorer.session is session
        assert line.scores_with(own)
        assert line.journal.of("served.refused") == []

    def test_the_common_one_is_that_which_is_active(self, line: Line) -> None:
        """Chosen at one version, the next ones are served as they come."""
        line.choose("local", line.vector(1))
        line.chosen()
        line.choose("global")
        line.chosen()
        assert line.scores_with(line.versions.newest.vector)
        line.versions.advance(seed=2)
        line.install()
        assert line.scores_with(line.versions.newest.vector)
        assert line.serving.choice is not None
        assert line.serving.choice.candidate == "global"

    def test_a_later_choice_replaces_it(self, line: Line) -> None:
        """As windows and models change, so does what is best."""
        for candidate, seed in (("local", 1), ("personal", 2)):
            line.choose(candidate, line.vector(seed))
            line.chosen()
            assert line.scores_with(line.vector(seed))

    def test_a_restart_goes_on_with_it(self, line: Line) -> None:
        """Without a broker, and without the trainer."""
        own = line.vector(1)
        line.choose("local", own)
        line.start()
        assert line.scores_with(own)
        assert line.serving.choice is not None
        assert line.serving.choice.candidate == "local"

    def test_its_weights_are_in_memory_once(self, line: Line) -> None:
        """The runtime has them; a gateway has little."""
        line.choose("local", line.vector(1))
        line.chosen()
        choice = line.serving.choice
        assert choice is not None
        assert (choice.vectors, choice.outputs) == ({}, b"")

    def test_a_job_without_a_choice_has_none(self, tmp_path: Path) -> None:
        """What an earlier job has left there does not score."""
        line = a_line(tmp_path, a_job())
        line.choose("local", line.vector(1))
        line.start()
        assert line.scores_with(line.versions.newest.vector)
        assert line.serving.choice is None

    def test_a_federation_that_went_back_is_followed(self, line: Line) -> None:
        """The coordinator comes from a backup: what was chosen later is of another history."""
        line.choose("local", line.vector(1), number=9)
        line.start()
        assert line.serving.choice is None
        assert line.scores_with(line.versions.newest.vector)

    def test_before_a_version_there_is_nothing_to_bind_it_to(self, tmp_path: Path) -> None:
        """The template comes with the version."""
        line = Line(tmp_path / "job", Versions(choosing()))
        line.choose("local", line.vector(1), number=0)
        line.chosen()
        assert line.scorer.version == ""
        line.install()
        assert line.scores_with(line.vector(1))


class TestUnsound:
    @pytest.mark.parametrize("fault", ["damaged", "cut", "foreign model", "outputs", "no model"])
    def test_the_common_version_takes_its_place(self, line: Line, fault: str) -> None:
        """It is told once, and no window goes unscored."""
        path, own = line.folder / SERVED_FILE, line.vector(1)
        changes: dict[str, Any] = {
            "foreign model": {"vectors": kept.bytes_of({MODEL: own[:-1]})},
            "outputs": {"outputs": pack_tensor(np.full((3, 2), 7.0, np.float32))},
            "no model": {"vectors": {}},
        }
        line.choose("local", own, **changes.get(fault, {}))
        if fault == "damaged":
            path.write_bytes(path.read_bytes()[:-4] + b"rust")
        if fault == "cut":
            path.write_bytes(path.read_bytes()[:40])
        line.chosen()
        assert line.scores_with(line.versions.newest.vector)
        assert line.serving.choice is None
        line.versions.advance(seed=2)
        line.install()
        assert line.scores_with(line.versions.newest.vector)
        assert len(line.journal.of("served.refused")) == 1
        assert path.exists()

    def test_weights_that_compute_something_else_are_found(self, line: Line) -> None:
        """The outputs that torch gave are those of other weights."""
        line.choose("local", line.vector(1))
        state = kept.look(line.folder / SERVED_FILE, ServedState, line.architecture.manifest.digest)
        assert state is not None
        other = structs.replace(state, vectors=kept.bytes_of({MODEL: line.vector(2)}))
        kept.keep(line.folder / SERVED_FILE, other)
        line.chosen()
        [told] = line.journal.of("served.refused")
        assert "canary: largest error" in told["error"]

    def test_one_of_another_layout_is_not_looked_at(self, line: Line) -> None:
        """The model was enlarged since: the next choice will be of this one."""
        line.choose("local", line.vector(1), layout="f" * 64)
        line.start()
        assert line.scores_with(line.versions.newest.vector)
        assert line.journal.of("served.refused") == []

    def test_a_damaged_shelf_keeps_what_scores(self, line: Line) -> None:
        """The version's blobs are read again for the new choice, and one is gone."""
        before = line.outputs()
        line.choose("local", line.vector(1))
        for path in (line.folder / "versions").glob("*.blob"):
            path.write_bytes(b"rust")
        line.chosen()
        assert line.outputs() == before
        assert "damaged" in line.journal.of("served.refused")[0]["error"]


class TestOwnParts:
    """With ``learning.personal`` a version scores with what the agent keeps."""

    def keep(self, line: Line, value: float, round_: int = 1) -> np.ndarray:
        """A training leaves a head; the version with it."""
        manifest, version = line.architecture.manifest, line.versions.newest.vector
        head = np.full(manifest.count(("head",)), value, np.float32)
        leave(line.folder / HOME_FILE, manifest, round_, before=NOTHING, after=Home(personal=head))
        return manifest.scatter(version, head, ("head",))

    def test_take_their_places_in_the_version(self, tmp_path: Path) -> None:
        """In the next one that comes, and in the one that is there once that is asked for."""
        line = a_line(tmp_path, OWN_HEAD)
        assert line.scores_with(line.versions.newest.vector)  # nothing is kept before round 1
        expected = self.keep(line, 0.5)
        line.deployment.refresh()
        assert line.scores_with(expected)
        line.versions.advance(seed=2)
        expected = self.keep(line, -0.5, 2)
        line.install()
        assert line.scores_with(expected)
        assert line.deployment.followed is not None
        assert line.deployment.followed.version == line.versions.newest.version

    def test_are_there_after_a_restart(self, tmp_path: Path) -> None:
        """The file is all it takes."""
        line = a_line(tmp_path, OWN_HEAD)
        expected = self.keep(line, 0.5)
        line.start()
        assert line.scores_with(expected)

    def test_damaged_ones_leave_the_version_as_it_came(self, tmp_path: Path) -> None:
        """The trainer, which owns the file, will tell."""
        line = a_line(tmp_path, OWN_HEAD)
        self.keep(line, 0.5)
        (line.folder / HOME_FILE).write_bytes(b"rust")
        line.start()
        assert line.scores_with(line.versions.newest.vector)
        assert (line.folder / HOME_FILE).exists()

    def test_that_give_no_numbers_do_not_score(self, tmp_path: Path) -> None:
        """Each is a number, and their sum overflows."""
        line = a_line(tmp_path, OWN_HEAD)
        self.keep(line, 3e38)
        line.start()
        assert line.scores_with(line.versions.newest.vector)
        [told] = line.journal.of("served.refused")
        assert "gives no numbers" in told["error"]

    def test_do_not_change_a_model_that_was_chosen(self, tmp_path: Path) -> None:
        """It was compared as a whole."""
        job = choosing(learning=Learning(personal="head"))
        line = a_line(tmp_path, job)
        own = line.vector(1)
        line.choose("personal", own)
        self.keep(line, 0.5)
        line.chosen()
        assert line.scores_with(own)

    def test_of_a_plain_job_are_not_looked_for(self, tmp_path: Path) -> None:
        """A file from when the job kept something changes nothing."""
        line = a_line(tmp_path, a_job())
        self.keep(line, 0.5)
        line.start()
        assert line.scores_with(line.versions.newest.vector)


class TestControl:
    """With SCAFFOLD a version carries control variates behind its weights."""

    JOB = a_job(rule="scaffold", goal=2, minimum=2, learning=Learning(optimiser="sgd"))

    def test_travel_in_the_delta_and_score_nothing(self, tmp_path: Path) -> None:
        """The agent holds the coordinator's bits, and the graph knows nothing of them."""
        line = Line(tmp_path / "job", Versions(self.JOB))
        line.install()
        made = line.versions.advance(seed=1, scale=0.5)
        line.install()
        assert line.deployment.followed is not None
        assert line.deployment.followed.version == made.version
        manifest = line.architecture.manifest
        assert np.any(manifest.gather(made.vector, ("control",)))
        assert line.scores_with(made.vector)
        path = Path(line.deployment.weights_path())
        assert path.read_bytes() == made.vector.tobytes()

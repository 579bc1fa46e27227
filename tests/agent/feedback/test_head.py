# SPDX-License-Identifier: Apache-2.0
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from tests.agent.feedback.conftest import Plant, a_plant
from tests.agent.kit import Versions, a_job

from fedmill_agent import kept
from fedmill_agent.feedback import anchor
from fedmill_agent.feedback.anchor import HEAD_FILE, HeadState
from fedmill_agent.feedback.head import Model
from fedmill_agent.inference.installing.around import Proposal
from fedmill_shared.errors import ModelError
from fedmill_shared.messages import VersionNotice
from fedmill_shared.models.readout import readout_of


def served(plant: Plant) -> VersionNotice:
    """What scores."""
    notice = plant.deployment.served
    assert notice is not None
    return notice


def serve(plant: Plant, vector: np.ndarray) -> None:
    """The installer takes a fitted head on; without validation windows it serves at once."""
    assert plant.deployment.installer.propose(Proposal("feedback", vector, "labels"))


def outside_of_head(plant: Plant, vector: np.ndarray) -> np.ndarray:
    """All weights but those of the last layer."""
    readout = readout_of(plant.versions.architecture.manifest)
    assert readout is not None
    return readout.put(vector, np.zeros((readout.width + 1, readout.outputs)))


class TestNoNumbers:
    def test_one_window_does_not_spoil_all_fits(
        self, plant: Plant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What the backbone makes NaN of is left out."""
        plant.label(range(20))
        reader = plant.head._reader
        read = reader.rows

        def broken(ids: Sequence[int], *rest: Any) -> Any:
            rows = read(ids, *rest)
            return {**rows, ids[0]: np.full_like(rows[ids[0]], np.nan)}

        monkeypatch.setattr(reader, "rows", broken)
        assert plant.head.look(served(plant)).used

    def test_a_head_of_another_size_is_not_gone_back_to(self) -> None:
        """Whoever wrote it there: it would fit nowhere."""
        serving = np.ones(4, np.float32)
        kept = anchor.vectors(np.zeros(3, np.float32), serving, serving)
        state = HeadState(layout="a", method="ridge", vectors=kept)
        assert anchor.federated(state, serving) is serving


class TestLabels:
    def test_without_any_nothing_happens(self, plant: Plant) -> None:
        """No version is read and no file is written."""
        plant.head._load = lambda _: pytest.fail("nobody wants to know")
        outcome = plant.head.look(served(plant))
        assert (outcome.labels, outcome.vector) == (0, None)
        assert not (plant.folder / HEAD_FILE).exists()

    def test_too_few_change_nothing(self, plant: Plant) -> None:
        """As the job says; nor is anything written."""
        plant.label(range(5))
        outcome = plant.head.look(served(plant))
        assert (outcome.labels, outcome.worth, outcome.vector) == (5, None, None)
        assert not (plant.folder / HEAD_FILE).exists()

    def test_enough_move_the_last_layer_alone(self, plant: Plant) -> None:
        """The backbone is that of the federation, and more windows are told right."""
        before = plant.versions.made[0].vector
        plant.label(range(20))
        outcome = plant.head.look(served(plant))
        assert outcome.used
        assert outcome.vector is not None
        np.testing.assert_array_equal(
            outside_of_head(plant, outcome.vector), outside_of_head(plant, before)
        )
        assert plant.accuracy(before) <= 0.6
        assert plant.accuracy(outcome.vector) > 0.95

    def test_the_same_labels_are_not_fitted_twice(self, plant: Plant) -> None:
        """Nor is one label more; four are, as the job says."""
        plant.label(range(20))
        first = plant.head.look(served(plant))
        assert first.vector is not None
        serve(plant, first.vector)
        assert plant.head.look(served(plant)).worth is None
        plant.label([20])
        again = plant.head.look(served(plant))
        assert (again.changed, again.worth) == (1, None)
        plant.label(range(21, 24))
        assert plant.head.look(served(plant)).worth is not None

    def test_a_head_that_is_right_already(self, plant: Plant) -> None:
        """It becomes surer at most: no window is told otherwise."""
        plant.label(range(40))
        first = plant.head.look(served(plant))
        assert first.vector is not None
        good = plant.versions.architecture._checked(first.vector, b"", np.zeros(1, np.float32))
        plant.versions.made[0] = good
        plant.announce()
        (plant.folder / HEAD_FILE).unlink()
        outcome = plant.head.look(served(plant))
        assert outcome.worth is not None
        assert outcome.worth.after < outcome.worth.before
        assert (outcome.worth.gained, outcome.worth.lost) == (0, 0)
        assert outcome.vector is not None
        assert plant.accuracy(outcome.vector) >= plant.accuracy(first.vector)


class TestAnchor:
    def test_a_fit_on_top_of_a_fit_is_anchored_at_the_federation(self, plant: Plant) -> None:
        """All labels at once, or some now and some later: the same head."""
        plant.label(range(12))
        first = plant.head.look(served(plant))
        assert first.vector is not None
        serve(plant, first.vector)
        plant.label(range(12, 24))
        second = plant.head.look(served(plant))
        other = a_plant(plant.folder / "other")
        other.windows(40)
        other.label(range(24))
        at_once = other.head.look(served(other))
        other.store.close()
        assert second.vector is not None
        assert at_once.vector is not None
        np.testing.assert_array_equal(second.vector, at_once.vector)

    def test_a_new_version_is_fitted_anew(self, plant: Plant) -> None:
        """Its own head is the anchor from then on."""
        plant.label(range(20))
        first = plant.head.look(served(plant))
        assert first.vector is not None
        serve(plant, first.vector)
        new = plant.versions.advance(seed=3, scale=0.01)
        plant.announce()
        outcome = plant.head.look(served(plant))
        assert outcome.vector is not None
        state = kept.look(
            plant.folder / HEAD_FILE, HeadState, plant.versions.architecture.manifest.digest
        )
        readout = readout_of(plant.versions.architecture.manifest)
        assert state is not None
        assert readout is not None
        np.testing.assert_array_equal(
            state.vector("federated"), readout.matrix(new.vector).astype(np.float32).ravel()
        )
        np.testing.assert_array_equal(
            outside_of_head(plant, outcome.vector), outside_of_head(plant, new.vector)
        )

    def test_a_roll_back_is_known_as_what_it_is(self, plant: Plant) -> None:
        """Back at the federation's head, nothing is fitted until there are new labels."""
        plant.label(range(20))
        first = plant.head.look(served(plant))
        assert first.vector is not None
        serve(plant, first.vector)
        assert plant.deployment.installer.roll_back("it was worse")
        assert served(plant).version == plant.versions.made[0].version
        assert plant.head.look(served(plant)).worth is None

    def test_one_that_a_release_has_replaced(self, plant: Plant) -> None:
        """The version is released again: what the labels say is not lost until more come."""
        plant.label(range(20))
        first = plant.head.look(served(plant))
        assert first.vector is not None
        before = served(plant)
        serve(plant, first.vector)
        assert plant.head.look(served(plant)).worth is None
        again = plant.head.look(before)
        np.testing.assert_array_equal(again.vector, first.vector)
        assert plant.head.look(before).vector is None


class TestCorrections:
    def test_a_corrected_label_counts_at_once(self, plant: Plant) -> None:
        """And leaves no trace: the head is what it would be had it never been otherwise."""
        plant.label(range(24))
        wanted = plant.head.look(served(plant)).vector
        other = a_plant(plant.folder / "other")
        other.windows(40)
        other.label(range(22))
        other.label([22, 23], swapped=True)
        wrong = other.head.look(served(other))
        assert wrong.vector is not None
        assert wanted is not None
        assert not np.array_equal(wrong.vector, wanted)
        serve(other, wrong.vector)
        other.label([22, 23])
        outcome = other.head.look(served(other))
        other.store.close()
        assert outcome.changed == 2
        assert outcome.vector is not None
        np.testing.assert_array_equal(outcome.vector, wanted)

    def test_labels_that_are_taken_back_bring_the_federation_back(
        self, plant: Plant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With too few left, its head is proposed again."""
        plant.label(range(20))
        first = plant.head.look(served(plant))
        assert first.vector is not None
        serve(plant, first.vector)
        plant.store._write(lambda database: database.execute("DELETE FROM labels"))
        outcome = plant.head.look(served(plant))
        assert outcome.labels == 0
        assert outcome.vector is not None
        np.testing.assert_array_equal(outcome.vector, plant.versions.made[0].vector)

    def test_once_all_are_gone_nothing_is_written_any_more(self, plant: Plant) -> None:
        """Windows come all day; flash memory wears out."""
        plant.label(range(20))
        first = plant.head.look(served(plant))
        assert first.vector is not None
        serve(plant, first.vector)
        plant.store._write(lambda database: database.execute("DELETE FROM labels"))
        back = plant.head.look(served(plant))
        assert back.vector is not None
        serve(plant, back.vector)
        plant.head.look(served(plant))
        before = (plant.folder / HEAD_FILE).read_bytes()
        plant.windows(4)
        plant.clock.advance(30.0)
        assert plant.head.look(served(plant)).vector is None
        assert (plant.folder / HEAD_FILE).read_bytes() == before

    def test_deletion_of_one_label(self, plant: Plant) -> None:
        """As if it had never been there."""
        plant.label(range(20))
        wanted = plant.head.look(served(plant)).vector
        plant.label([21])
        plant.start()
        plant.head.look(served(plant))
        start = 21 * 8 * 10**9
        plant.store._write(
            lambda database: database.execute("DELETE FROM labels WHERE start_ns = ?", (start,))
        )
        outcome = plant.head.look(served(plant))
        assert outcome.labels == 20
        assert wanted is not None
        assert outcome.vector is not None
        np.testing.assert_array_equal(outcome.vector, wanted)


class TestRestart:
    def test_same_numbers_again(self, plant: Plant) -> None:
        """A new process comes to the same head, sees that it serves, and proposes nothing."""
        plant.label(range(20))
        first = plant.head.look(served(plant))
        assert first.vector is not None
        serve(plant, first.vector)
        plant.start()
        outcome = plant.head.look(served(plant))
        assert outcome.worth is not None
        assert outcome.vector is None

    def test_power_cut_before_it_was_proposed(self, plant: Plant) -> None:
        """What was fitted is fitted again, to the same bytes."""
        plant.label(range(20))
        first = plant.head.look(served(plant))
        plant.start()
        again = plant.head.look(served(plant))
        assert first.vector is not None
        assert again.vector is not None
        assert first.vector.tobytes() == again.vector.tobytes()

    def test_damaged_file(self, plant: Plant) -> None:
        """It is set aside; the head that serves then counts as the federation's."""
        plant.label(range(20))
        plant.head.look(served(plant))
        (plant.folder / HEAD_FILE).write_bytes(b"not what it was")
        plant.start()
        assert plant.head.look(served(plant)).vector is not None
        assert (plant.folder / HEAD_FILE).with_suffix(".damaged").exists()


class TestNumbers:
    def test_a_regression_in_its_unit(self, tmp_path: Path) -> None:
        """Labels in hours move a head that works in standardised units."""
        plant = a_plant(tmp_path, task="regression")
        plant.windows(60)
        plant.label(range(40))
        outcome = plant.head.look(served(plant))
        plant.store.close()
        assert outcome.used
        assert outcome.vector is not None
        model = plant.versions.architecture.model
        model.load(outcome.vector)
        values = np.concatenate([np.full((1, 1, 8), level, np.float32) for level in (-1.5, 1.5)])
        low, high = model.predict(values)[:, 0]
        assert low == pytest.approx(2.0, abs=1.5)
        assert high == pytest.approx(10.0, abs=1.5)

    def test_labels_above_the_cap_count_as_the_cap(self, tmp_path: Path) -> None:
        """As in training."""
        plant = a_plant(tmp_path, task="regression")
        plant.job = structs.replace(plant.job, labels=structs.replace(plant.job.labels, cap=3.0))
        plant.start()
        plant.windows(60)
        plant.label(range(40))
        outcome = plant.head.look(served(plant))
        plant.store.close()
        assert outcome.vector is not None
        model = plant.versions.architecture.model
        model.load(outcome.vector)
        assert model.predict(np.full((1, 1, 8), 1.5, np.float32))[0, 0] < 4.0


class TestOlderVersions:
    def test_a_template_without_features(self, plant: Plant) -> None:
        """It is told, with the way out."""
        plant.label(range(20))
        manifest, _, vector = plant.deployment.read(served(plant))
        older = Versions(a_job(name="older"))
        import onnx

        model = onnx.load_model_from_string(older.architecture.template)
        del model.graph.output[1:]
        template = model.SerializeToString()
        plant.head._load = lambda _: (manifest, template, vector)
        with pytest.raises(ModelError, match="does not tell what its last layer works on"):
            plant.head.look(served(plant))


class TestNewerVersion:
    """What it would be like, once fitted as what serves was; before it serves."""

    def model(self, plant: Plant) -> Model:
        """A newer version: the same backbone, and another head that tells most windows wrong."""
        made = plant.versions.made[0].vector
        readout = readout_of(plant.versions.architecture.manifest)
        assert readout is not None
        vector = readout.put(made, 0.7 * readout.matrix(made))
        architecture = plant.versions.architecture
        return Model(architecture.manifest, architecture.template, vector)

    def test_beside_the_federations_own_head(self, plant: Plant) -> None:
        """Nothing is fitted: what is worse than it is worse."""
        plant.label(range(20))
        assert plant.head.refitted(self.model(plant), served(plant)) is None

    def test_beside_one_that_was_fitted_here(self, plant: Plant) -> None:
        """It is fitted to the same labels, and nothing is remembered of it."""
        plant.label(range(20))
        first = plant.head.look(served(plant))
        assert first.vector is not None
        serve(plant, first.vector)
        kept_before = (plant.folder / HEAD_FILE).read_bytes()
        newer = self.model(plant)
        vector = plant.head.refitted(newer, served(plant))
        assert vector is not None
        assert plant.accuracy(newer.vector) <= 0.6
        assert plant.accuracy(vector) > 0.95
        np.testing.assert_array_equal(
            outside_of_head(plant, vector), outside_of_head(plant, newer.vector)
        )
        assert (plant.folder / HEAD_FILE).read_bytes() == kept_before

    def test_labels_that_are_gone(self, plant: Plant) -> None:
        """With too few of them nothing is fitted."""
        plant.label(range(20))
        first = plant.head.look(served(plant))
        assert first.vector is not None
        serve(plant, first.vector)
        plant.head._job = structs.replace(
            plant.job, feedback=structs.replace(plant.job.feedback, min_labels=50)
        )
        assert plant.head.refitted(self.model(plant), served(plant)) is None

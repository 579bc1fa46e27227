# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from fedmill_agent.feedback import fitting
from fedmill_agent.feedback.fitting import Settings, Windows, Worth
from fedmill_agent.feedback.scaling import Scaling

RIDGE = Settings(method="ridge", classes=True)
PROTOTYPES = Settings(method="prototypes", classes=True)
NUMBERS = Settings(method="ridge", classes=False)
PLACES = 4.0 * np.eye(4)[:3]


def gathered(classes: np.ndarray, seed: int, shift: float = 0.0) -> np.ndarray:
    """Features (n, 4) of windows of these classes; ``shift`` is how far a plant lies apart."""
    random = np.random.default_rng(seed)
    return PLACES[classes] + random.normal(size=(len(classes), 4)) + [-shift, shift, 0.0, 2 * shift]


def head() -> np.ndarray:
    """A head that is right where nothing is shifted."""
    return np.vstack([PLACES.T, -0.5 * np.square(PLACES).sum(1)])


def plant(named: np.ndarray, shift: float = 3.0) -> Windows:
    """Labelled windows of these classes, and sixty others."""
    others = gathered(np.arange(60) % 3, 5, shift)
    return Windows(gathered(named, 7, shift), np.eye(3)[named], others)


def accuracy(layer: np.ndarray, shift: float = 3.0) -> float:
    """On windows of all classes that nobody has seen."""
    classes = np.arange(600) % 3
    features = gathered(classes, 11, shift)
    said = (features @ layer[:-1] + layer[-1]).argmax(1)
    return float((said == classes).mean())


class TestClasses:
    def test_labels_help_a_plant_that_lies_apart(self) -> None:
        """The more of them the more."""
        named = np.random.default_rng(0).permutation(np.arange(90) % 3)
        found = [accuracy(fitting.fit(plant(named[:n]), head(), RIDGE)) for n in (5, 20, 90)]
        before = accuracy(head())
        assert before < 0.8
        assert found[0] >= before
        assert found[-1] > before + 0.1
        assert found[-1] >= found[0]

    def test_labels_of_one_class_do_not_drown_the_others(self) -> None:
        """Sixty labels of a crack and none of anything else."""
        windows = plant(np.full(60, 0))
        assert accuracy(fitting.fit(windows, head(), RIDGE)) >= accuracy(head()) - 0.02
        bare = Windows(windows.features, windows.targets, np.empty((0, 4)))
        assert accuracy(fitting.fit(bare, head(), RIDGE)) < accuracy(head())

    @pytest.mark.parametrize("settings", [RIDGE, NUMBERS])
    def test_wide_features_give_the_same_in_fewer_numbers(self, settings: Settings) -> None:
        """More features than windows: only what the windows span is solved for."""
        random = np.random.default_rng(4)
        outputs = 3 if settings.classes else 1
        wide = random.normal(size=(51, outputs))
        targets = np.eye(3)[np.arange(20) % 3] if settings.classes else random.normal(size=(20, 1))
        windows = Windows(random.normal(size=(20, 50)), targets, random.normal(size=(9, 50)))
        found = fitting.fit(windows, wide, settings)
        every = np.vstack([windows.features, windows.others])
        scaling = Scaling.of(every)
        make = fitting._classes if settings.classes else fitting._numbers
        rows, anchor = scaling.rows(every), scaling.inward(wide)
        if settings.classes:
            anchor = fitting._calmed(rows, targets, anchor, settings)
        wanted = scaling.outward(make(rows, targets, anchor, settings))
        np.testing.assert_allclose(found, wanted, atol=1e-3)

    def test_strength_holds_it_at_the_federation(self) -> None:
        """A huge one leaves the head alone, up to its confidence."""
        named = np.arange(30) % 3
        strong = Settings(method="ridge", classes=True, strength=1e6)
        layer = fitting.fit(plant(named), head(), strong)
        features = gathered(named, 3, 3.0)
        before, after = (features @ each[:-1] + each[-1] for each in (head(), layer))
        np.testing.assert_array_equal(before.argmax(1), after.argmax(1))

    def test_forgetting_follows_the_newest(self) -> None:
        """Old labels say the opposite of new ones; with forgetting the new ones hold."""
        named = np.concatenate([np.full(40, 0), np.full(40, 1)])
        features = gathered(np.full(80, 2), 7)
        windows = Windows(features, np.eye(3)[named], gathered(np.arange(30) % 3, 5))
        quick = Settings(method="ridge", classes=True, forgetting=0.8)
        lasting, fresh = (fitting.fit(windows, head(), each) for each in (RIDGE, quick))
        new = gathered(np.full(50, 2), 13)
        mean = [(new @ each[:-1] + each[-1]).mean(0) for each in (lasting, fresh)]
        assert mean[1][1] - mean[1][0] > mean[0][1] - mean[0][0]

    @pytest.mark.parametrize("settings", [RIDGE, PROTOTYPES])
    def test_order_of_equal_windows_does_not_matter(self, settings: Settings) -> None:
        """Without forgetting, labels may come in any order."""
        windows = plant(np.random.default_rng(1).integers(0, 3, 24))
        mixed = np.random.default_rng(2).permutation(24)
        again = Windows(windows.features[mixed], windows.targets[mixed], windows.others)
        np.testing.assert_allclose(
            fitting.fit(windows, head(), settings),
            fitting.fit(again, head(), settings),
            atol=1e-8,
        )

    @pytest.mark.parametrize("settings", [RIDGE, PROTOTYPES])
    def test_same_bytes_again(self, settings: Settings) -> None:
        """After a restart the same labels make the same head."""
        windows = plant(np.arange(24) % 3)
        first, again = (fitting.fit(windows, head(), settings) for _ in range(2))
        assert first.tobytes() == again.tobytes()

    @pytest.mark.parametrize("settings", [RIDGE, PROTOTYPES])
    def test_bounded_without_unlabelled_windows(self, settings: Settings) -> None:
        """One label and nothing else is enough for a finite answer."""
        windows = Windows(gathered(np.array([1]), 0), np.eye(3)[[1]], np.empty((0, 4)))
        assert np.isfinite(fitting.fit(windows, head(), settings)).all()


class TestNumbers:
    @staticmethod
    def scene(count: int, offset: float) -> tuple[Windows, np.ndarray]:
        """A plant where the head tells every number too low by ``offset``."""
        random = np.random.default_rng(0)
        layer = np.array([[1.0], [-0.5], [0.0], [0.2], [0.0]])
        features, others = random.normal(size=(count, 4)), random.normal(size=(80, 4))
        return Windows(features, features @ layer[:-1] + layer[-1] + offset, others), layer

    def test_labels_take_an_offset_away(self) -> None:
        """Most of it with twenty labels, nearly all with two hundred."""
        left = []
        for count in (1, 20, 200):
            windows, layer = self.scene(count, 2.0)
            found = fitting.fit(windows, layer, NUMBERS)
            error = windows.others @ (found - layer)[:-1] + (found - layer)[-1] - 2.0
            left.append(float(np.abs(error).mean()))
        assert left[0] < 2.0
        assert left[0] > left[1] > left[2]
        assert left[2] < 0.4

    def test_what_is_right_stays(self) -> None:
        """Labels that the head tells right move nothing."""
        windows, layer = self.scene(30, 0.0)
        np.testing.assert_allclose(fitting.fit(windows, layer, NUMBERS), layer, atol=1e-9)

    def test_worth(self) -> None:
        """An offset is worth a fit; a head that is right is not."""
        windows, layer = self.scene(30, 2.0)
        found = fitting.worth(windows, layer, NUMBERS)
        assert found.better
        assert found.after < 0.2 * found.before
        windows, layer = self.scene(30, 0.0)
        assert not fitting.worth(windows, layer, NUMBERS).better


class TestWorth:
    def test_labels_that_say_what_the_head_says(self) -> None:
        """Nothing is to be gained where it is right and sure already."""
        named = np.arange(30) % 3
        found = fitting.worth(plant(named, 0.0), 5.0 * head(), PROTOTYPES)
        assert (found.gained, found.lost) == (0, 0)
        assert not found.better

    def test_labels_that_help(self) -> None:
        """More windows are told right that the fit has not seen."""
        named = np.arange(60) % 3
        found = fitting.worth(plant(named), head(), RIDGE)
        assert found.better
        assert found.gained > found.lost
        assert found.windows == 60

    def test_labels_that_came_class_by_class(self) -> None:
        """What is left out has windows of its class among the others, in whatever order."""
        blind = head()
        blind[-1, 2] -= 50.0
        named = np.concatenate([np.arange(40) % 2, np.full(10, 2)])
        found = fitting.worth(plant(named, 0.0), blind, PROTOTYPES)
        assert found.gained >= 8
        assert found.better

    def test_labels_that_are_noise(self) -> None:
        """Random classes promise nothing, and nothing is proposed."""
        random = np.random.default_rng(3)
        features = gathered(np.arange(60) % 3, 7)
        noise = np.eye(3)[random.integers(0, 3, 60)]
        windows = Windows(features, noise, gathered(np.arange(60) % 3, 5))
        found = fitting.worth(windows, head(), PROTOTYPES)
        assert not found.better

    def test_better_takes_both(self) -> None:
        """A smaller loss at the price of right windows is none, and prototypes need a margin."""
        assert Worth(10, 1.0, 0.5, 0, 0).better
        assert Worth(10, 1.0, 0.5, 1, 0).better
        assert not Worth(10, 1.0, 0.5, 0, 1).better
        assert not Worth(10, 1.0, 0.5, 3, 2).better
        assert not Worth(10, 0.5, 0.5, 4, 0).better
        assert not Worth(10, 1.0, 0.5, 1, 0, margin=2).better
        assert not Worth(10, 1.0, float("nan"), 4, 0).better

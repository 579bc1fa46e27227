# SPDX-License-Identifier: Apache-2.0
import numpy as np

from fedmill_agent.feedback import prototypes
from fedmill_agent.probabilities import probabilities


def scene(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Three classes apart, and a head that knows the first two of them.

    Rows (60, 5), classes, weights, and the head.
    """
    random = np.random.default_rng(seed)
    classes = np.arange(60) % 3
    places = np.array([[3.0, 0, 0, 0], [0, 3.0, 0, 0], [0, 0, 3.0, 0]])
    rows = np.hstack([places[classes] + 0.4 * random.normal(size=(60, 4)), np.ones((60, 1))])
    head = np.zeros((5, 3))
    head[0, 0] = head[1, 1] = 3.0
    head[-1, 2] = -6.0
    return rows, classes, np.ones(60), head


def fitted(named: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The layer after the windows ``named`` got labels; all rows and classes."""
    rows, classes, weights, head = scene(seed)
    order = np.concatenate([named, np.setdiff1d(np.arange(60), named)])
    said = probabilities(rows[order] @ head)
    said[: len(named)] = np.eye(3)[classes[named]]
    weights[len(named) :] = 0.05
    layer = prototypes.fit(rows[order], said, weights, labelled=len(named), anchor=head)
    return layer, rows, classes


class TestUnknown:
    def test_classes_that_the_head_misses(self) -> None:
        """By the labels that there are; at half of them right it knows the class."""
        truth = np.array([0, 0, 1, 1, 2])
        np.testing.assert_array_equal(prototypes.unknown(np.array([0, 1, 0, 0, 2]), truth, 4), [1])


class TestFit:
    def test_a_new_class_from_three_labels(self) -> None:
        """It is told from then on, and the others are still."""
        layer, rows, classes = fitted(np.array([2, 5, 8]))
        _, _, _, head = scene()
        before = (rows @ head).argmax(1) == classes
        after = (rows @ layer).argmax(1) == classes
        assert before[classes == 2].mean() == 0.0
        assert after[classes == 2].mean() > 0.9
        assert after[classes != 2].mean() >= 0.95

    def test_known_classes_keep_their_rows(self) -> None:
        """Bit for bit; labels that the head has right change nothing at all."""
        layer, _, _ = fitted(np.array([2, 5, 8]))
        head = scene()[3]
        np.testing.assert_array_equal(layer[:, :2], head[:, :2])
        np.testing.assert_array_equal(fitted(np.array([0, 1, 3]))[0], head)

    def test_the_row_is_the_squared_distance(self) -> None:
        """Brute force: up to scale, offset and |x|^2, the logit is minus the distance to the mean.

        The head calls some windows so already: they count one label for the mean.
        """
        named = np.array([2, 5, 8])
        layer, rows, _ = fitted(named)
        head = scene()[3]
        others = np.setdiff1d(np.arange(60), named)
        called = others[(rows[others] @ head).argmax(1) == 2]
        mean = rows[named, :-1].mean(0)
        if len(called):
            mean = (3 * mean + rows[called, :-1].mean(0)) / 4
        distances = np.square(rows[:, :-1] - mean).sum(1) - np.square(rows[:, :-1]).sum(1)
        logits = rows @ layer[:, 2]
        slope, offset = np.polyfit(-distances, logits, 1)
        assert slope > 0.0
        np.testing.assert_allclose(logits, offset - slope * distances, atol=1e-9)

    def test_confidence_stays_sensible(self) -> None:
        """The new logits are of the size of the head's own, not a hundred times that."""
        layer, rows, _ = fitted(np.array([2, 5, 8]))
        head = scene()[3]
        assert np.std(rows @ layer[:, 2]) < 10.0 * np.std(rows @ head)
        assert probabilities(rows @ layer).max(1).mean() > 0.5

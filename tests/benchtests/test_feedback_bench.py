# SPDX-License-Identifier: Apache-2.0
"""The bench of feedback: its targets, its comparison, and a small scene of its own."""

from argparse import ArgumentParser, Namespace

import numpy as np
import pytest
from tests.bench import feedback as bench
from tests.laboratory.heads import Scene

from fedmill_shared.errors import UsageError

PLACES = 4.0 * np.eye(4)[:3]


def options(*arguments: str) -> Namespace:
    """What the command line of the bench makes of these."""
    parser = ArgumentParser()
    bench.add_arguments(parser)
    return parser.parse_args(arguments)


def scene(*, numbers: bool = False) -> Scene:
    """A plant that lies apart from a federation of three classes, or tells a number too low."""
    random = np.random.default_rng(0)
    classes = np.arange(180) % 3
    shift = np.array([-3.0, 3.0, 0.0, 6.0])
    parts = []
    for _ in range(2):
        features = PLACES[classes] + random.normal(size=(180, 4)) + shift
        targets = (features[:, :1] * 0.5 + 2.0) if numbers else np.eye(3)[classes]
        parts.append((features, targets))
    head = np.vstack([PLACES.T, -0.5 * np.square(PLACES).sum(1)])
    if numbers:
        head = np.array([[0.5], [0.0], [0.0], [0.0], [0.0]])
    return Scene(
        "a plant", head, not numbers, 10.0 if numbers else 1.0, *parts[0], np.arange(180), parts[1]
    )


class TestFigures:
    def test_classes_against_no_feedback(self) -> None:
        """Each number of labels, each method, and the worst order; no feedback is the target."""
        figures = {each.name: each for each in bench.figures_of(scene(), 2)}
        before = figures["a plant: no feedback"].value
        for count in bench.LABELS:
            for method in ("ridge", "prototypes"):
                found = figures[f"a plant: {method}, {count} labels"]
                assert found.target == f">= {before:g}"
                assert found.ok
                assert figures[f"{found.name}, worst"].value <= found.value + 1e-3
            assert f"a plant: these labels alone, {count} labels" in figures
        assert figures["a plant: ridge, 50 labels"].value > before + 5.0

    def test_numbers_against_no_feedback(self) -> None:
        """Smaller is better, in the label's unit; only ridge is for numbers."""
        figures = {each.name: each for each in bench.figures_of(scene(numbers=True), 2)}
        before = figures["a plant: no feedback"].value
        assert before == pytest.approx(20.0)
        assert figures["a plant: ridge, 50 labels"].target == f"<= {before:g}"
        assert figures["a plant: ridge, 50 labels"].value < 5.0
        assert not any("prototypes" in name for name in figures)

    def test_worse_than_no_feedback_misses_the_target(self) -> None:
        """By however little."""
        assert [each.ok for each in bench._compared("x", 50.0, [49.9, 50.0], "%")] == [False, True]
        assert [each.ok for each in bench._compared("x", 5.0, [5.1, 5.0], "cycles")] == [
            False,
            True,
        ]
        assert bench._compared("x", 50.0, [50.0], "%")[0].ok
        assert bench._compared("x", 5.0, [5.0], "cycles")[0].ok

    def test_labels_and_other_windows_are_not_the_same(self) -> None:
        """What is labelled is not rehearsed, and an order is the same again."""
        plant = scene()
        labelled, others = bench._chosen(plant, 3, 20)
        again = bench._chosen(plant, 3, 20)
        np.testing.assert_array_equal(labelled, again[0])
        np.testing.assert_array_equal(others, again[1])
        rows = {row.tobytes() for row in plant.features[labelled]}
        assert not rows & {row.tobytes() for row in others}

    def test_costs(self) -> None:
        """Time and memory of an update."""
        names = [each.name for each in bench.costs_of(16)]
        assert "update, width 16, 50 labels: fit and proof" in names
        assert "update, width 16: memory" in names


class TestOptions:
    def test_no_orders(self) -> None:
        """Nothing to take the mean of."""
        with pytest.raises(UsageError, match="--orders 0 is impossible"):
            bench.run(options("--orders", "0"))

# SPDX-License-Identifier: Apache-2.0
"""Learning curves: valid SVG, and points where they belong."""

from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmill_coordinator.demo.plot import (
    BOTTOM,
    COLOURS,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Curve,
    line_chart,
    ticks,
)

SVG = "{http://www.w3.org/2000/svg}"
X0, X1, Y0, Y1 = LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, TOP


def drawn(*curves: Curve) -> ET.Element:
    """The chart, parsed."""
    return ET.fromstring(line_chart("a < b & c", "x", "y", curves))  # noqa: S314  written here


def points(root: ET.Element) -> list[list[tuple[float, float]]]:
    """Coordinates of every curve."""
    return [
        [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]
        for line in root.iter(f"{SVG}polyline")
    ]


def texts(root: ET.Element) -> list[str]:
    """Everything that is written."""
    return [element.text or "" for element in root.iter(f"{SVG}text")]


class TestChart:
    """What is drawn where."""

    def test_corners(self) -> None:
        """The smallest values are at the lower left, the largest at the upper right."""
        [line] = points(drawn(Curve("federated", [(0, 0.0), (5, 0.5), (10, 1.0)])))
        assert line == [(X0, Y0), ((X0 + X1) / 2, (Y0 + Y1) / 2), (X1, Y1)]

    def test_all_curves_share_the_axes(self) -> None:
        """A flat line lies where its level is among the others, dashed."""
        root = drawn(
            Curve("federated", [(0, 0.0), (10, 1.0)]),
            Curve("pooled", [(0, 0.75), (10, 0.75)], flat=True),
        )
        [_, flat] = points(root)
        level = Y0 + 0.75 * (Y1 - Y0)
        assert flat == [(X0, pytest.approx(level)), (X1, pytest.approx(level))]
        lines = list(root.iter(f"{SVG}polyline"))
        assert ["stroke-dasharray" in line.attrib for line in lines] == [False, True]
        assert [line.attrib["stroke"] for line in lines] == list(COLOURS[:2])

    def test_what_was_measured_is_marked(self) -> None:
        """A dot for each measured point; a level has none."""
        root = drawn(Curve("federated", [(0, 0.0), (4, 1.0)]), Curve("p", [(0, 0.5)], flat=True))
        dots = [
            (float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in root.iter(f"{SVG}circle")
        ]
        assert dots == [(X0, Y0), (X1, Y1)]

    @pytest.mark.parametrize(
        ("last", "expected"),
        [(1, "0 1"), (3, "0 1 2 3"), (12, "0 5 10"), (60, "0 20 40 60"), (130, "0 50 100")],
    )
    def test_rounds_are_whole_and_end_with_the_last(self, last: int, expected: str) -> None:
        """No half rounds, and no empty room on the right."""
        root = drawn(Curve("federated", [(0, 10.0), (last, 20.0)]))
        [line] = points(root)
        assert [x for x, _ in line] == [X0, X1]
        below = [text for text in root.iter(f"{SVG}text") if text.get("y") == str(Y0 + 18)]
        assert " ".join(text.text or "" for text in below) == expected

    def test_text_is_text(self) -> None:
        """Names with mark-up in them are shown as they are."""
        root = drawn(Curve("<script>&", [(0, 1.0), (1, 2.0)]))
        assert {"a < b & c", "<script>&", "x", "y"} <= set(texts(root))
        assert not list(root.iter(f"{SVG}script"))

    def test_names_do_not_collide(self) -> None:
        """Curves that end at one level have their names one below the other."""
        root = drawn(*(Curve(f"c{i}", [(0, 0.5), (1, 0.5 + i / 1000)]) for i in range(4)))
        places = [
            float(element.attrib["y"])
            for element in root.iter(f"{SVG}text")
            if (element.text or "").startswith("c")
        ]
        gaps = [abs(a - b) for i, a in enumerate(places) for b in places[:i]]
        assert min(gaps) >= 14.9

    def test_nothing_to_draw(self) -> None:
        """Curves without points are left out; an empty chart is still a chart."""
        assert points(drawn()) == []
        root = drawn(Curve("empty", []), Curve("one", [(3, 7.0)]))
        assert len(points(root)) == 1
        assert "empty" not in texts(root)

    @given(
        st.lists(
            st.lists(st.tuples(st.integers(0, 1000), st.floats(-1e6, 1e6)), max_size=8), max_size=5
        )
    )
    @settings(max_examples=50)
    def test_every_point_is_inside(self, lines: list[list[tuple[int, float]]]) -> None:
        """Whatever is drawn stays between the axes."""
        curves = [Curve(f"c{i}", line) for i, line in enumerate(lines)]
        for line in points(drawn(*curves)):
            for x, y in line:
                assert X0 - 0.1 <= x <= X1 + 0.1
                assert Y1 - 0.1 <= y <= Y0 + 0.1


class TestTicks:
    """Round numbers on the axes."""

    @pytest.mark.parametrize(
        ("low", "high", "expected"),
        [
            (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
            (0.0, 60.0, [0.0, 20.0, 40.0, 60.0]),
            (12.3, 41.0, [10.0, 20.0, 30.0, 40.0, 50.0]),
            (-1.0, 1.0, [-1.0, -0.5, 0.0, 0.5, 1.0]),
            (5.0, 5.0, [5.0, 6.0]),
            (0.0, 0.0, [0.0, 0.2]),
            (0.0, 2e-12, [0.0, 5e-13, 1e-12, 1.5e-12, 2e-12]),
        ],
    )
    def test_literal(self, low: float, high: float, expected: list[float]) -> None:
        """As a person would choose them."""
        assert ticks(low, high) == expected

    @pytest.mark.parametrize("span", [1, 2, 7, 12, 13, 80, 99, 1000, 12345])
    def test_whole_ones(self, span: int) -> None:
        """Where they may be no closer than 1."""
        found = ticks(0, span, least=1.0)
        assert all(tick == int(tick) for tick in found)
        assert len(set(found)) == len(found) <= 8

    @given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
    def test_they_enclose_and_are_even(self, low: float, span: float) -> None:
        """Few, rising by one step, from below the lowest to the highest value."""
        span = max(span, 1e-6 * abs(low))
        high = low + span
        found = ticks(low, high)
        assert 2 <= len(found) <= 8
        assert found[0] <= low + 1e-9 * span
        assert found[-1] >= high - 1e-6 * span
        steps = [b - a for a, b in pairwise(found)]
        assert min(steps) > 0
        assert max(steps) - min(steps) <= 1e-3 * max(steps)

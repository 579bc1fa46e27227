# SPDX-License-Identifier: Apache-2.0
"""Learning curves as one SVG file, drawn without a plotting library."""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 40, 48
COLOURS = ("#1f5fa8", "#b5522b", "#3c7a3c", "#6b6b6b")


@dataclass(frozen=True, slots=True)
class Curve:
    """A named line through (round, value) points; ``flat`` ones are drawn dashed across.

    Points of the others are marked: between them nothing was measured.
    """

    name: str
    points: Sequence[tuple[int, float]]
    flat: bool = False


def line_chart(title: str, x_label: str, y_label: str, curves: Sequence[Curve]) -> str:
    """The SVG text of a line chart of ``curves``."""
    shown = [curve for curve in curves if curve.points]
    xs = [x for curve in shown for x, _ in curve.points] or [0]
    ys = [y for curve in shown for _, y in curve.points] or [0.0]
    first, last = min(xs), max(*xs, min(xs) + 1)
    # Rounds are whole, and the axis ends with the last of them.
    x_ticks = [tick for tick in ticks(first, last, least=1.0) if first <= tick <= last]
    y_ticks = ticks(min(ys), max(ys))
    scale = _Scale(first, last, y_ticks[0], y_ticks[-1])
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="24" font-size="15">{escape(title)}</text>',
        *_axes(scale, x_ticks, y_ticks, x_label, y_label),
    ]
    names_y = _spread([scale.y(curve.points[-1][1]) for curve in shown])
    for number, (curve, name_y) in enumerate(zip(shown, names_y, strict=True)):
        parts += _curve(curve, scale, COLOURS[number % len(COLOURS)], name_y)
    return "\n".join([*parts, "</svg>", ""])


def ticks(low: float, high: float, count: int = 5, *, least: float = 0.0) -> list[float]:
    """Round numbers that enclose ``low`` to ``high``, about ``count`` of them.

    They are at least ``least`` apart; from 1 on they are whole.
    """
    span = high - low or abs(high) or 1.0
    raw = max(least, span / count)
    power = 10.0 ** int(f"{raw:e}".split("e")[1])
    factors = (1, 2, 5, 10) if least and power < 10 else (1, 2, 2.5, 5, 10)
    step = next(power * factor for factor in factors if power * factor >= raw * 0.999)
    first = int(low // step)
    last = first
    while last * step < high - 1e-9 * span:
        last += 1
    return [float(f"{i * step:.12g}") for i in range(first, max(last, first + 1) + 1)]


@dataclass(frozen=True, slots=True)
class _Scale:
    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        return LEFT + (value - self.x_low) / (self.x_high - self.x_low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _axes(
    scale: _Scale, x_ticks: list[float], y_ticks: list[float], x_label: str, y_label: str
) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for tick in y_ticks:
        y = scale.y(tick)
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in x_ticks:
        x = scale.x(tick)
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{tick:g}</text>')
    middle = (LEFT + right) / 2
    parts.append(
        f'<line x1="{LEFT}" y1="{bottom}" x2="{right}" y2="{bottom}" stroke="#444"/>'
        f'<text x="{middle}" y="{HEIGHT - 10}" text-anchor="middle">{escape(x_label)}</text>'
        f'<text x="16" y="{(TOP + bottom) / 2}" text-anchor="middle" '
        f'transform="rotate(-90 16 {(TOP + bottom) / 2})">{escape(y_label)}</text>'
    )
    return parts


def _curve(curve: Curve, scale: _Scale, colour: str, name_y: float) -> list[str]:
    points = " ".join(f"{scale.x(x):.1f},{scale.y(y):.1f}" for x, y in curve.points)
    dashes = ' stroke-dasharray="6 4"' if curve.flat else ""
    place = f'x="{WIDTH - RIGHT + 8}" y="{name_y + 4:.1f}"'
    marks = [
        f'<circle cx="{scale.x(x):.1f}" cy="{scale.y(y):.1f}" r="3" fill="{colour}"/>'
        for x, y in (() if curve.flat else curve.points)
    ]
    return [
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>',
        *marks,
        f'<text {place} fill="{colour}">{escape(curve.name)}</text>',
    ]


def _spread(wanted: Sequence[float], gap: float = 15.0) -> list[float]:
    """Positions near ``wanted`` that are at least ``gap`` apart, so that names do not collide."""
    placed: dict[int, float] = {}
    last = float("-inf")
    for index in sorted(range(len(wanted)), key=lambda i: wanted[i]):
        last = max(wanted[index], last + gap)
        placed[index] = last
    return [placed[i] for i in range(len(wanted))]

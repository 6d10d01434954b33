"""Curves as SVG that stands in a page by itself: light or dark as the page is, each curve with its name at its end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 640, 250
_LEFT, _TOP, _BOTTOM = 64, 14, 30
_MAX_POINTS = 500  # of a curve; more cannot be told apart
_NAME_SPACING = 14  # pixels between two names
_CHARACTER_WIDTH = 7.2  # pixels of one, about


@dataclass(frozen=True)
class Curve:
    """points: (x, y) by rising x; faint: behind the others, without a name."""

    name: str
    colour: str
    points: Sequence[tuple[float, float]]
    faint: bool = False


def render_chart(
    title: str, curves: Sequence[Curve], y_max: float | None = None, marked_step: float | None = None
) -> str:
    """One chart of curves over steps; "" when there is no point. top: of the upright axis; mark: an upright line."""
    points = [point for curve in curves for point in curve.points]
    if not points:
        return ""
    names = [curve.name for curve in curves if not curve.faint]
    right = _WIDTH - 16 - _CHARACTER_WIDTH * max(map(len, names), default=0)
    high = max(y for _, y in points) if y_max is None else y_max
    rows = _tick_values(min(y for _, y in points), high)
    columns = _tick_values(0.0, max(x for x, _ in points))
    frame = _Axes(right, (0.0, max(x for x, _ in points) or 1.0), (rows[0], max(rows[-1], high)))
    parts = [
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title, quote=True)}">',
        *(_gridline(frame, value) for value in rows),
        *(_x_tick_label(frame, value) for value in columns if value <= frame.x_range[1]),
    ]
    if marked_step is not None:
        x = frame.x_pixel(marked_step)
        parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>')
    parts += [_polyline(frame, curve) for curve in sorted(curves, key=lambda curve: not curve.faint)]
    parts += _curve_names(frame, [curve for curve in curves if not curve.faint and curve.points])
    return f"<figure><figcaption>{escape(title)}</figcaption>{''.join(parts)}</svg></figure>\n"


def moving_average(points: Sequence[tuple[float, float]], window: int) -> list[tuple[float, float]]:
    """Each point as the mean of the last `width` up to it."""
    out = []
    for i, (x, _) in enumerate(points):
        near = [y for _, y in points[max(0, i + 1 - window) : i + 1]]
        out.append((x, sum(near) / len(near)))
    return out


@dataclass(frozen=True)
class _Axes:
    """Where values lie. right: pixels; across, up: lowest and highest value of both axes."""

    right_edge: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x_pixel(self, value: float) -> float:
        return _LEFT + (self.right_edge - _LEFT) * (value - self.x_range[0]) / (self.x_range[1] - self.x_range[0])

    def y_pixel(self, value: float) -> float:
        low, high = self.y_range
        return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * (value - low) / (high - low)


def _tick_values(low: float, high: float, count: int = 5) -> list[float]:
    """Round values from just below `low` to just below or at `high`."""
    span = max(high - low, 1e-9 + 1e-6 * abs(high))
    size: float = 10 ** math.floor(math.log10(span / count))
    step = next(size * n for n in (1, 2, 5, 10) if span / (size * n) <= count)
    first = math.floor(low / step + 1e-9)
    return [step * n for n in range(first, first + count + 3) if step * n <= high + 1e-9 * step or n <= first + 1]


def _gridline(frame: _Axes, value: float) -> str:
    y = frame.y_pixel(value)
    return (
        f'<line class="grid" x1="{_LEFT}" x2="{frame.right_edge:.0f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>'
    )


def _x_tick_label(frame: _Axes, value: float) -> str:
    return f'<text x="{frame.x_pixel(value):.1f}" y="{_HEIGHT - 8}" text-anchor="middle">{value:.6g}</text>'


def _polyline(frame: _Axes, curve: Curve) -> str:
    every = max(1, math.ceil(len(curve.points) / _MAX_POINTS))
    kept = [*curve.points[:-1:every], curve.points[-1]] if curve.points else []
    places = " ".join(f"{frame.x_pixel(x):.1f},{frame.y_pixel(y):.1f}" for x, y in kept)
    kind = "faint" if curve.faint else "curve"
    dots = ""
    if len(kept) <= 30 and not curve.faint:
        spots = (f'<circle cx="{frame.x_pixel(x):.1f}" cy="{frame.y_pixel(y):.1f}" r="2.2"/>' for x, y in kept)
        dots = f'<g fill="{curve.colour}">{"".join(spots)}</g>'
    return f'<polyline class="{kind}" stroke="{curve.colour}" points="{places}"/>{dots}'


def _curve_names(frame: _Axes, curves: Sequence[Curve]) -> list[str]:
    """The names at the right ends of their curves, moved apart where ends lie close."""
    ends = sorted((frame.y_pixel(curve.points[-1][1]), i) for i, curve in enumerate(curves))
    places: list[float] = []
    for y, _ in ends:
        places.append(max(y, places[-1] + _NAME_SPACING if places else y))
    limit = float(_HEIGHT - _BOTTOM)
    for i in reversed(range(len(places))):
        places[i] = min(places[i], limit)
        limit = places[i] - _NAME_SPACING
    return [
        f'<text class="name" x="{frame.right_edge + 8:.0f}" y="{y + 4:.1f}" fill="{curves[i].colour}">'
        f"{escape(curves[i].name)}</text>"
        for y, (_, i) in zip(places, ends, strict=True)
    ]

"""Line charts as inline SVG, in the colours of the page, each curve with its name at its right end."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from .picture import spread_positions

_WIDTH, _HEIGHT = 640, 250
_LEFT, _TOP, _BOTTOM = 64, 14, 30
_MAX_POINTS = 500  # per curve; more cannot be distinguished
_MAX_DOTS = 30  # curves with fewer points show them
_NAME_SPACING = 14  # pixels between two names
_CHARACTER_WIDTH = 7.2  # pixels, approximate


@dataclass(frozen=True)
class Curve:
    """points: (x, y) in the order of x; faint: drawn behind the others, without a name."""

    name: str
    colour: str
    points: Sequence[tuple[float, float]]
    faint: bool = False


def render_chart(
    title: str, curves: Sequence[Curve], y_max: float | None = None, marked_step: float | None = None
) -> str:
    """Return one chart of curves over steps; empty without points. marked_step: position of a vertical line."""
    points = [point for curve in curves for point in curve.points]
    if not points:
        return ""
    names = [curve.name for curve in curves if not curve.faint]
    right = _WIDTH - 16 - _CHARACTER_WIDTH * max(map(len, names), default=0)
    high = max(y for _, y in points) if y_max is None else y_max
    rows = _tick_values(min(y for _, y in points), high)
    columns = _tick_values(0.0, max(x for x, _ in points))
    axes = _Axes(right, (0.0, max(x for x, _ in points) or 1.0), (rows[0], max(rows[-1], high)))
    parts = [
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title, quote=True)}">',
        *(_gridline(axes, value) for value in rows),
        *(_x_tick_label(axes, value) for value in columns if value <= axes.x_range[1]),
    ]
    if marked_step is not None:
        x = axes.x_pixel(marked_step)
        parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>')
    parts += [_polyline(axes, curve) for curve in sorted(curves, key=lambda curve: not curve.faint)]
    parts += _curve_names(axes, [curve for curve in curves if not curve.faint and curve.points])
    return f"<figure><figcaption>{escape(title)}</figcaption>{''.join(parts)}</svg></figure>\n"


def moving_average(points: Sequence[tuple[float, float]], window: int) -> list[tuple[float, float]]:
    """Return at each x the mean of the last `window` values."""
    values = [y for _, y in points]
    return [(x, statistics.fmean(values[max(0, i - window) : i])) for i, (x, _) in enumerate(points, start=1)]


@dataclass(frozen=True)
class _Axes:
    """Conversion from values to pixels. right_edge: pixels; x_range, y_range: lowest and highest value."""

    right_edge: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x_pixel(self, value: float) -> float:
        return _LEFT + (self.right_edge - _LEFT) * (value - self.x_range[0]) / (self.x_range[1] - self.x_range[0])

    def y_pixel(self, value: float) -> float:
        low, high = self.y_range
        return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * (value - low) / (high - low)


def _tick_values(low: float, high: float, count: int = 5) -> list[float]:
    """Return round values from at or below `low` to at or below `high`."""
    span = max(high - low, 1e-9 + 1e-6 * abs(high))
    size: float = 10 ** math.floor(math.log10(span / count))
    step = next(size * n for n in (1, 2, 5, 10) if span / (size * n) <= count)
    first = math.floor(low / step + 1e-9)
    return [step * n for n in range(first, first + count + 3) if step * n <= high + 1e-9 * step or n <= first + 1]


def _gridline(axes: _Axes, value: float) -> str:
    y = axes.y_pixel(value)
    return (
        f'<line class="grid" x1="{_LEFT}" x2="{axes.right_edge:.0f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>'
    )


def _x_tick_label(axes: _Axes, value: float) -> str:
    return f'<text x="{axes.x_pixel(value):.1f}" y="{_HEIGHT - 8}" text-anchor="middle">{value:.6g}</text>'


def _polyline(axes: _Axes, curve: Curve) -> str:
    every = max(1, math.ceil(len(curve.points) / _MAX_POINTS))
    points = [*curve.points[:-1:every], *curve.points[-1:]]
    pixels = [(f"{axes.x_pixel(x):.1f}", f"{axes.y_pixel(y):.1f}") for x, y in points]
    line = " ".join(",".join(pixel) for pixel in pixels)
    css_class, dots = "faint" if curve.faint else "curve", ""
    if len(points) <= _MAX_DOTS and not curve.faint:
        circles = "".join(f'<circle cx="{x}" cy="{y}" r="2.2"/>' for x, y in pixels)
        dots = f'<g fill="{curve.colour}">{circles}</g>'
    return f'<polyline class="{css_class}" stroke="{curve.colour}" points="{line}"/>{dots}'


def _curve_names(axes: _Axes, curves: Sequence[Curve]) -> list[str]:
    """Return the names at the right ends of their curves, moved apart where ends are close."""
    ends = sorted((axes.y_pixel(curve.points[-1][1]), i) for i, curve in enumerate(curves))
    positions = spread_positions([y for y, _ in ends], _NAME_SPACING, 0, _HEIGHT - _BOTTOM)
    return [
        f'<text class="name" x="{axes.right_edge + 8:.0f}" y="{y + 4:.1f}" fill="{curves[i].colour}">'
        f"{escape(curves[i].name)}</text>"
        for y, (_, i) in zip(positions, ends, strict=True)
    ]

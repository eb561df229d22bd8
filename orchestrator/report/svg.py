"""Small helpers that draw SVG as text; colours are classes, so that the page decides about light, dark and print."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import ceil, floor, log10

Value = str | float


def tag(name: str, *children: str, **attributes: Value) -> str:
    """Return an element; `class_` and `text_anchor` become `class` and `text-anchor`."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_text(value))}"' for key, value in attributes.items()
    )
    return f"<{name}{given}>{''.join(children)}</{name}>" if children else f"<{name}{given}/>"


def drawing(width: float, height: float, label: str, *children: str) -> str:
    """Return a drawing that scales with the page and reads its label to those who cannot see it."""
    view = f"0 0 {_text(width)} {_text(height)}"
    return tag("svg", tag("title", escape(label)), *children, viewBox=view, role="img", class_="chart")


def text(x: float, y: float, content: str, class_: str = "", anchor: str = "start") -> str:
    """Return a line of text whose vertical middle is at y."""
    return tag("text", escape(content), x=x, y=y, class_=class_, text_anchor=anchor, dy="0.35em")


def rect(x: float, y: float, width: float, height: float, class_: str, hint: str = "", radius: float = 0) -> str:
    """Return a rectangle; the hint shows when it is pointed at."""
    return tag("rect", *_hint(hint), x=x, y=y, width=max(width, 0), height=height, class_=class_, rx=radius)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    """Return a straight line."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def dot(x: float, y: float, radius: float, class_: str, hint: str = "") -> str:
    """Return a disc."""
    return tag("circle", *_hint(hint), cx=x, cy=y, r=radius, class_=class_)


def diamond(x: float, y: float, size: float, class_: str, hint: str = "") -> str:
    """Return a square on its corner."""
    corners = ((x, y - size), (x + size, y), (x, y + size), (x - size, y))
    points = " ".join(f"{_text(a)},{_text(b)}" for a, b in corners)
    return tag("polygon", *_hint(hint), points=points, class_=class_)


def band(points: Sequence[tuple[float, float, float]], class_: str, hint: str = "") -> str:
    """Return the area between two lines, from points of (x, upper y, lower y)."""
    outline = [(x, upper) for x, upper, _ in points] + [(x, lower) for x, _, lower in reversed(points)]
    return tag("polygon", *_hint(hint), points=" ".join(f"{_text(x)},{_text(y)}" for x, y in outline), class_=class_)


def flow(x1: float, y1: float, x2: float, y2: float, width: float, class_: str, hint: str = "") -> str:
    """Return a band of one width that leaves and arrives level."""
    half = (x1 + x2) / 2
    ends = " ".join(f"{_text(x)},{_text(y)}" for x, y in ((half, y1), (half, y2), (x2, y2)))
    path = f"M{_text(x1)},{_text(y1)} C{ends}"
    return tag("path", *_hint(hint), d=path, stroke_width=width, class_=f"flow {class_}")


def path(points: Sequence[tuple[float, float]], class_: str, hint: str = "") -> str:
    """Return a line through points."""
    return tag("polyline", *_hint(hint), points=" ".join(f"{_text(x)},{_text(y)}" for x, y in points), class_=class_)


class Scale:
    """From values to places on a line."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high, self.start = low, high, start
        self._factor = (end - start) / ((high - low) or 1)

    def __call__(self, value: float) -> float:
        """Return the place of a value."""
        return self.start + (value - self.low) * self._factor


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about *count* round values from at most *low* to at least *high*."""
    span = (high - low) or 1
    rough = span / count
    power = 10.0 ** floor(log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(first, max(last, first + 1) + 1)]


def _hint(hint: str) -> tuple[str, ...]:
    return (tag("title", escape(hint)),) if hint else ()


def _text(value: Value) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")

"""The report's drawings, each a function from aggregates to SVG."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from orchestrator.learning.intervals import Interval
from orchestrator.learning.uplift import Comparison
from orchestrator.report import svg
from orchestrator.report.data import WEEK, Bar, Mark, Timeline

WIDTH = 960.0
_LETTER, _BOLD = 7.3, 8.8  # about what a letter takes at the drawings' size, in a wide font
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_NOTES: Mapping[str, str] = {}

ColorOf = Callable[[str], str]
"""Returns the colour class of a campaign."""


def day(instant: int) -> str:
    """Return the date of an instant, such as 5 March 2017."""
    moment = _EPOCH + timedelta(milliseconds=instant)
    return f"{moment.day} {moment:%B %Y}"


def stacked_weeks(weeks: Sequence[int], counts: Mapping[str, Sequence[int]], color: ColorOf) -> str:
    """Return a bar per week, made of one part per campaign."""
    height, left, top, bottom = 300.0, 44.0, 12.0, 28.0
    totals = [sum(column) for column in zip(*counts.values(), strict=True)]
    marks = svg.ticks(0, max(totals, default=0) or 1, 4)
    x = svg.Scale(weeks[0], weeks[-1] + WEEK, left, WIDTH)
    y = svg.Scale(0, marks[-1], height - bottom, top)
    parts = [_guides(marks, y, left), *_months(weeks[0], weeks[-1] + WEEK, x, top, height - bottom)]
    wide = x(weeks[0] + WEEK) - x(weeks[0])
    for number, week in enumerate(weeks):
        base = 0
        for campaign, column in counts.items():
            if column[number]:
                hint = f"{campaign}: {column[number]:,} in the week of {day(week)} (all: {totals[number]:,})"
                upper = y(base + column[number])
                parts.append(svg.rect(x(week) + 1, upper, wide - 2, y(base) - upper, color(campaign), hint))
                base += column[number]

    return svg.drawing(WIDTH, height, "Triggers per week by campaign", *parts)


def bars(rows: Sequence[tuple[str, str, int]], label: str, total: int, class_of: ColorOf) -> str:
    """Return a horizontal bar per (key, label, count), with its count and its share of the total."""
    step, right = 27.0, 130.0
    left = _room((name for _, name, _ in rows), _LETTER)
    x = svg.Scale(0, max((count for _, _, count in rows), default=1) or 1, left, WIDTH - right)
    parts = []
    for number, (key, name, count) in enumerate(rows):
        y = number * step + step / 2
        share = f"{count:,}  ·  {count / (total or 1):.1%}"
        parts += [
            svg.text(left - 12, y, name, "label", "end"),
            svg.rect(left, y - 8, max(x(count) - left, 1.5 if count else 0), 16, class_of(key), f"{name}: {share}", 2),
            svg.text(max(x(count), left) + 8, y, share, "value"),
        ]

    return svg.drawing(WIDTH, len(rows) * step, label, *parts)


def arms(comparisons: Sequence[Comparison], color: ColorOf, money: Callable[[float], str]) -> str:
    """Return the mean of treatment and of control for every campaign, with their intervals."""
    step, left = 58.0, _room(one.campaign for one in comparisons)
    drawn = [arm.interval for one in comparisons for arm in (one.treatment, one.control) if arm.interval is not None]
    x, parts, bottom = _axis(drawn, left, len(comparisons) * step, money)
    for number, one in enumerate(comparisons):
        middle = number * step + step / 2
        parts.append(svg.text(left - 16, middle, one.campaign, "label strong", "end"))
        for arm, name, class_, y in (
            (one.treatment, "treatment", color(one.campaign), middle - 11),
            (one.control, "control", "control-arm", middle + 11),
        ):
            size = f"{name}, {arm.windows:,} windows of {arm.customers:,} customers"
            if arm.interval is None:
                parts.append(svg.text(left + 8, y, f"{size}: not enough data yet", "note"))
            else:
                parts += _whisker(x, y, arm.interval, class_, f"{size}: {_said(arm.interval, money)}")
                parts.append(svg.text(x(arm.interval.high) + 10, y, f"{money(arm.interval.mean)}  {name}", "value"))

    return svg.drawing(WIDTH, bottom, "Mean net margin per window, treatment and control", *parts)


def differences(
    rows: Sequence[tuple[str, Interval | None]],
    color: ColorOf,
    money: Callable[[float], str],
    notes: Mapping[str, str] = _NO_NOTES,
) -> str:
    """Return the difference between treatment and control with its interval, around a line at 0, and a word beside."""
    step, left = 36.0, _room(campaign for campaign, _ in rows)
    x, parts, bottom = _axis([one for _, one in rows if one is not None], left, len(rows) * step, money, zero=True)
    for number, (campaign, interval) in enumerate(rows):
        y = number * step + step / 2
        parts.append(svg.text(left - 16, y, campaign, "label strong", "end"))
        if interval is None:
            parts.append(svg.text(left + 8, y, "not enough data yet", "note"))
            continue
        parts += _whisker(x, y, interval, color(campaign), _said(interval, money))
        parts.append(svg.text(x(interval.high) + 10, y, f"{money(interval.mean)}  {notes.get(campaign, '')}", "value"))

    return svg.drawing(WIDTH, bottom, "Difference between treatment and control", *parts)


def courses(
    looks: Sequence[int],
    rows: Sequence[tuple[str, Sequence[Interval | None]]],
    color: ColorOf,
    money: Callable[[float], str],
) -> str:
    """Return a strip per campaign: how its interval narrowed from look to look, around a line at 0."""
    step, left, tall = 96.0, _room(campaign for campaign, _ in rows), 76.0
    height = step * len(rows)
    x = svg.Scale(looks[0], looks[-1], left, WIDTH - 150)
    parts = _months(looks[0], looks[-1], x, 0, height)
    for number, (campaign, course) in enumerate(rows):
        top = number * step
        known = [(look, one) for look, one in zip(looks, course, strict=True) if one is not None]
        parts.append(svg.text(left - 16, top + tall / 2, campaign, "label strong", "end"))
        if not known:
            parts.append(svg.text(left + 8, top + tall / 2, "not enough data yet", "note"))
            continue
        # The first intervals are so wide that the last ones would be a line: what leaves the strip is cut off.
        last = known[-1][1]
        reach = 3 * max(abs(last.low), abs(last.high)) or 1.0
        y = svg.Scale(-reach, reach, top + tall, top)

        def place(value: float, y: svg.Scale = y, reach: float = reach) -> float:
            return y(min(max(value, -reach), reach))

        points = [(x(look), place(one.high), place(one.low)) for look, one in known]
        parts.append(svg.band(points, f"{color(campaign)} interval", _said(last, money)))
        parts.append(svg.line(left, y(0), WIDTH - 150, y(0), "zero"))
        parts += [svg.dot(x(look), place(one.mean), 3, f"{color(campaign)} mean", f"{day(look)}: {_said(one, money)}")
                  for look, one in known]  # fmt: skip
        parts.append(svg.text(WIDTH - 140, place(last.mean), f"{money(last.low)} to {money(last.high)}", "value"))

    return svg.drawing(WIDTH, height + 24, "How the intervals narrowed over time", *parts)


def sizes(looks: Sequence[int], rows: Mapping[str, Sequence[int]], color: ColorOf) -> str:
    """Return a line per name with its number at every look, at least two of these, and the name at its end."""
    height, left, right, top, bottom = 300.0, 44.0, 190.0, 12.0, 28.0
    marks = svg.ticks(0, max((max(row) for row in rows.values()), default=0) or 1, 4)
    x = svg.Scale(looks[0], looks[-1], left, WIDTH - right)
    y = svg.Scale(0, marks[-1], height - bottom, top)
    parts = [_guides(marks, y, left), *_months(looks[0], looks[-1], x, top, height - bottom)]
    ends: list[float] = []
    for name, row in sorted(rows.items(), key=lambda one: -one[1][-1]):
        points = [(x(look), y(size)) for look, size in zip(looks, row, strict=True)]
        ends.append(max(points[-1][1], *(end + 16 for end in ends[-1:]), 0))  # one name below the other
        said = f"{name}  {row[-1]:,}"
        parts += [svg.path(points, f"{color(name)} course", said), svg.text(WIDTH - right + 8, ends[-1], said, "value")]

    return svg.drawing(WIDTH, max(height, ends[-1] + 10), "How many there were over time", *parts)


def timelines(rows: Sequence[Timeline], first: int, last: int, color: ColorOf) -> str:
    """Return a line per customer: slots as bars, and marks for what happened without one."""
    step, left, top = 46.0, _room(row.customer for row in rows), 6.0
    height = top + step * len(rows)
    end = max([last, *(bar.end for row in rows for bar in row.bars)])
    x = svg.Scale(first, end, left, WIDTH - 6)
    parts = _months(first, end, x, top, height)
    for number, row in enumerate(rows):
        y = top + number * step + step / 2
        parts.append(svg.line(left, y, WIDTH - 6, y, "rail"))
        parts.append(svg.text(0, y, row.customer, "label strong"))
        parts += [_slot(bar, x, y, color) for bar in row.bars]
        parts += [_mark(mark, x(mark.at), y) for mark in row.marks]

    return svg.drawing(WIDTH, height + 24, "What happened to some customers over the year", *parts)


def _slot(bar: Bar, x: svg.Scale, y: float, color: ColorOf) -> str:
    hint = f"{bar.campaign} ({bar.arm}), {day(bar.start)} to {day(bar.end)}"
    return svg.rect(x(bar.start), y - 9, x(bar.end) - x(bar.start) - 1, 18, f"{color(bar.campaign)} {bar.arm}", hint, 2)


def _mark(mark: Mark, x: float, y: float) -> str:
    hint = f"{mark.kind}{f': {mark.what}' if mark.what else ''}, {day(mark.at)}"
    if mark.kind in {"void", "interruption"}:
        return svg.diamond(x, y, 5, "undone", hint)
    if mark.kind == "holdout":
        return svg.diamond(x, y, 5, "holdout", hint)
    return end_mark(x, y + 12, mark.kind, hint)


def _room(names: Iterable[str], letter: float = _BOLD) -> float:
    """Return the width that the longest of the names needs to the left of the drawing."""
    return 26 + letter * max(map(len, names), default=0)


def end_mark(x: float, y: float, state: str, hint: str = "") -> str:
    """Return the mark of a moment that ended unanswered, hanging from y."""
    return svg.rect(x - 1, y, 2, 4 if state == "unmet" else 8, f"end-{state}", hint)


def _axis(
    intervals: Sequence[Interval], left: float, height: float, money: Callable[[float], str], zero: bool = False
) -> tuple[svg.Scale, list[str], float]:
    low = min([one.low for one in intervals] + [0.0] * (zero or not intervals))
    high = max([one.high for one in intervals] + [0.0] * (zero or not intervals))
    margin = (high - low) * 0.04
    marks = svg.ticks(low - margin, high + margin, 5)
    x = svg.Scale(marks[0], marks[-1], left, WIDTH - 150)
    parts = [svg.line(x(mark), 0, x(mark), height, "zero" if zero and mark == 0 else "guide") for mark in marks]
    parts += [svg.text(x(mark), height + 14, money(mark), "axis", "middle") for mark in marks]

    return x, parts if intervals else [], height + 26 if intervals else height


def _whisker(x: svg.Scale, y: float, interval: Interval, class_: str, hint: str) -> list[str]:
    low, high = x(interval.low), x(interval.high)
    return [
        svg.rect(low, y - 5, high - low, 10, f"{class_} interval", hint, 3),
        svg.dot(x(interval.mean), y, 4, f"{class_} mean", hint),
    ]


def _said(interval: Interval, money: Callable[[float], str]) -> str:
    return f"{money(interval.mean)}, 95 % interval {money(interval.low)} to {money(interval.high)}"


def _guides(marks: Sequence[float], y: svg.Scale, left: float) -> str:
    return "".join(
        svg.line(left, y(mark), WIDTH, y(mark), "guide") + svg.text(left - 8, y(mark), f"{mark:,.0f}", "axis", "end")
        for mark in marks
    )


def _months(first: int, last: int, x: svg.Scale, top: float, bottom: float) -> list[str]:
    """Return a faint line at the start of every month, and its name below."""
    month = (_EPOCH + timedelta(milliseconds=first)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    parts = []
    while (at := (month - _EPOCH) // timedelta(milliseconds=1)) < last:
        following = (month + timedelta(days=32)).replace(day=1)
        if at >= first:
            parts.append(svg.line(x(at), top, x(at), bottom, "guide"))
        begin, end = max(at, first), min((following - _EPOCH) // timedelta(milliseconds=1), last)
        if x(end) - x(begin) > 30:
            name = f"{month:%b}" if month.month > 1 else f"{month:%b %Y}"
            parts.append(svg.text((x(begin) + x(end)) / 2, bottom + 14, name, "axis", "middle"))
        month = following

    return parts

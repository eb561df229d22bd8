"""Journeys for people: the table of the terminal, and a page with the picture of the paths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from rich import box
from rich.table import Table

from orchestrator.events import DAY
from orchestrator.report import labels, page, svg
from orchestrator.report.charts import WIDTH
from orchestrator.report.journeys import NOTHING, TOO_EARLY, Journeys, Pair, Walked

HEAD = ("campaign", "what came next", "treated", "ordered", "control", "ordered", "leads_to")

_TALL, _GAP, _LEAST, _BAR = 420.0, 16.0, 6.0, 8.0
"""How tall all windows together are, the space between two nodes, the least height of one, and its width."""


def table(journeys: Journeys) -> Table:
    """Return the paths for the terminal, and which that `leads_to` imagines nobody took."""
    found = Table(box=box.SIMPLE_HEAD, title=_said(journeys), title_style="bold")
    for number, name in enumerate(HEAD):
        found.add_column(name, justify="right" if 2 <= number <= 5 else "left")
    for row in _rows(journeys):
        found.add_row(*row)
    return found


def render(journeys: Journeys) -> str:
    """Return the paths as one self-contained HTML page."""
    title = "The paths customers take"
    head = f"<header><h1>{title}</h1>{page.paragraph(_said(journeys), 'lead')}</header>"
    if not journeys.answered:
        return page.page(title, head, page.paragraph("No campaign has answered a moment yet."))
    ended = [
        (moment, labels.fate(fate), f"{count:,}")
        for moment, fates in journeys.unanswered.items()
        for fate, count in sorted(fates.items(), key=lambda one: (-one[1], one[0]))
    ]
    return page.page(
        title,
        head,
        page.section(
            "From the moment to the campaign, and what came next",
            page.figure(
                draw(journeys),
                "A band is as wide as the number of windows, treated and control together. Outlined: what leads_to "
                "imagines; dashed where nobody went. Orders are those within the window.",
            ),
        ),
        page.section("In figures", page.table(HEAD, list(_rows(journeys)))),
        page.section("Moments that no campaign answered", page.table(("moment", "what became of it", "times"), ended))
        if ended
        else "",
    )


def draw(journeys: Journeys) -> str:
    """Return the picture: moments at the left, campaigns in the middle, and at the right what came next."""
    campaigns = sorted({source for source, _ in [*journeys.followed, *journeys.imagined]})
    colors = {campaign: f"c{number % page.COLORS}" for number, campaign in enumerate(campaigns)}
    targets = sorted({target for _, target in [*journeys.followed, *journeys.imagined]}, key=_last)
    scale = _TALL / max(sum(walked.windows for walked in journeys.answered.values()), 1)
    left = _Column(0.0, scale, sorted({moment for moment, _ in journeys.answered}), journeys.answered, 0)
    middle = _Column((WIDTH - _BAR) / 2, scale, campaigns, journeys.followed, 0)
    right = _Column(WIDTH - _BAR, scale, targets, journeys.followed, 1)

    parts = []
    entered = dict(middle.top)
    for (moment, campaign), walked in journeys.answered.items():
        ends = (_BAR, left.take(moment, walked), middle.x, _take(entered, campaign, walked.windows * scale))
        parts.append(svg.flow(*ends, walked.windows * scale, colors[campaign], _hint(moment, campaign, walked)))
    for pair, walked in sorted(journeys.followed.items(), key=lambda one: (one[0][0], _last(one[0][1]))):
        ends = (middle.x + _BAR, middle.take(pair[0], walked), right.x, right.take(pair[1], walked))
        if pair in journeys.imagined:
            parts.append(svg.flow(*ends, walked.windows * scale + 5, "imagined"))
            parts.append(svg.flow(*ends, walked.windows * scale, "ground"))
        parts.append(svg.flow(*ends, walked.windows * scale, colors[pair[0]], _hint(*pair, walked)))
    for source, target in journeys.untaken:
        hint = f"{source} to {target}: imagined by leads_to, and nobody went there"
        ends = (middle.x + _BAR, middle.top[source], right.x, right.top[target])
        parts.append(svg.flow(*ends, 2, "untaken", hint))
    parts += left.nodes(colors, 14, "start") + middle.nodes(colors, 14, "start") + right.nodes(colors, -6, "end")
    height = max(left.bottom, middle.bottom, right.bottom)

    return svg.drawing(WIDTH, height, "The paths from moments to campaigns and on to the next", *parts)


class _Column:
    """Nodes one below the other, each as tall as the windows that pass it; `top` is where its next band begins."""

    def __init__(self, x: float, scale: float, names: list[str], paths: Mapping[Pair, Walked], end: int) -> None:
        self.x, self._scale = x, scale
        self._windows = Counter[str]()
        for pair, walked in paths.items():
            self._windows[pair[end]] += walked.windows
        self._begin: dict[str, float] = {}
        self.bottom = _GAP
        for name in names:
            self._begin[name] = self.bottom
            self.bottom += self._tall(name) + _GAP
        self.top = dict(self._begin)

    def take(self, name: str, walked: Walked) -> float:
        """Return the middle of the next band at a node."""
        return _take(self.top, name, walked.windows * self._scale)

    def nodes(self, colors: Mapping[str, str], aside: float, anchor: str) -> list[str]:
        """Return the nodes with their names and numbers beside them."""
        parts = []
        for name, y in self._begin.items():
            said = f"{name}  {self._windows[name]:,}"
            parts.append(svg.rect(self.x, y, _BAR, self._tall(name), colors.get(name, "quiet"), said, 2))
            parts.append(svg.text(self.x + aside, y + self._tall(name) / 2, said, "on", anchor))
        return parts

    def _tall(self, name: str) -> float:
        return max(self._windows[name] * self._scale, _LEAST)


def _take(tops: dict[str, float], name: str, wide: float) -> float:
    """Return the middle of a band that begins where the one before ended."""
    tops[name] += wide
    return tops[name] - wide / 2


def _rows(journeys: Journeys) -> Iterator[tuple[str, ...]]:
    for (source, target), walked in sorted(
        journeys.followed.items(), key=lambda one: (one[0][0], -one[1].windows, one[0][1])
    ):
        counts = (walked.treatment, walked.treatment_ordered, walked.control, walked.control_ordered)
        yield (source, target, *(f"{count:,}" for count in counts), "yes" * ((source, target) in journeys.imagined))
    for source, target in journeys.untaken:
        yield (source, target, "0", "0", "0", "0", "yes, nobody went")


def _said(journeys: Journeys) -> str:
    windows = sum(walked.windows for walked in journeys.answered.values())
    said = f"{windows:,} windows of {journeys.customers:,} customers; next is what began up to "
    said += f"{journeys.within / DAY:g} days after a window ended"
    return said + f"; {journeys.unmeasured:,} are not measured yet" * bool(journeys.unmeasured)


def _hint(source: str, target: str, walked: Walked) -> str:
    treated = f"{walked.treatment:,} treated ({walked.treatment_ordered:,} ordered)"
    return f"{source} to {target}: {treated}, {walked.control:,} control ({walked.control_ordered:,} ordered)"


def _last(name: str) -> tuple[bool, str]:
    """Return an order in which campaigns come before the ends of a path."""
    return name in (NOTHING, TOO_EARLY), name

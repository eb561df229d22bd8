"""The report: one HTML file that shows what was decided, and what it was worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from orchestrator.learning.intervals import Interval
from orchestrator.learning.uplift import Comparison
from orchestrator.reasons import Reason
from orchestrator.report import charts, labels, page, svg
from orchestrator.report.data import NO_RECORD, SEVERAL, PlantedCarts, ReportData, campaigns_of


def render(data: ReportData, currency: str = "USD", *, title: str = "A year of customer journeys") -> str:
    """Return the report as one self-contained HTML page."""
    colors = {campaign: f"c{number % page.COLORS}" for number, campaign in enumerate(campaigns_of(data))}
    return page.page(title, _header(data, title), _facts(data), *_body(data, colors, currency), _footer())


def _body(data: ReportData, colors: Mapping[str, str], currency: str) -> list[str]:
    return [
        _triggers(data, colors),
        _reasons(data),
        _carts(data),
        _moments(data),
        _outcomes(data, colors, currency),
        _timelines(data, colors),
    ]


def _header(data: ReportData, title: str) -> str:
    span = f"{charts.day(data.first)} to {charts.day(data.last)}" if data.decisions else "No decision was recorded."
    lead = page.paragraph(span, "lead")
    arms = data.arms
    tiles = page.tiles(
        [
            ("decisions", f"{data.decisions:,}"),
            ("customers", f"{data.customers:,}"),
            ("messages triggered", f"{data.sends:,}"),
            ("held back as control", f"{arms.get('control', 0):,}"),
            ("hold-out decisions", f"{arms.get('holdout', 0):,}"),
            ("taken back later", f"{data.kinds.get('void', 0):,}"),
        ]
    )
    return f"<header><h1>{title}</h1>{lead}</header>{tiles}"


def _facts(data: ReportData) -> str:
    return page.section("The run in figures", page.facts(data.summary.items())) if data.summary else ""


def _triggers(data: ReportData, colors: Mapping[str, str]) -> str:
    title = "Messages over time"
    if not data.weeks:
        return page.section(title, page.paragraph("No message was triggered.", "soft"))
    totals = {campaign: sum(counts) for campaign, counts in data.triggers_by_week.items()}
    legend = page.legend((_swatch(colors[campaign]), f"{campaign} {total:,}") for campaign, total in totals.items())
    drawing = charts.stacked_weeks(data.weeks, data.triggers_by_week, colors.__getitem__)
    return page.section(
        title, legend, page.figure(drawing, "Triggers per week, by campaign. Retractions are not counted.")
    )


def _reasons(data: ReportData) -> str:
    total = sum(data.reasons.values())
    rows = [(reason, labels.reason(reason), count) for reason, count in data.reasons.items()]
    others = [
        f"{data.kinds.get(kind, 0):,} {what}"
        for kind, what in (("closing", "that only note the end of moments"), ("void", "that take one back"))
        if data.kinds.get(kind)
    ]
    note = f"{total:,} decisions compared campaigns; the bars say what came of them. "
    note += f"Not shown: {' and '.join(others)}." if others else ""
    drawing = charts.bars(rows, "Decisions by reason", total, _emphasis)
    return page.section("What was decided, and why not more", page.paragraph(note, "soft"), page.figure(drawing))


def _carts(data: ReportData) -> str:
    abandoned = next((one for one in data.carts if one.kind == "abandoned"), None)
    if abandoned is None:
        return ""
    rows = [(fate, labels.fate(fate), count) for fate, count in abandoned.fates.items()]
    answered = sum(abandoned.fates.get(reason, 0) for reason in (Reason.CHOSEN, Reason.CONTROL))
    missing = {fate: abandoned.fates[fate] for fate in (NO_RECORD, SEVERAL) if fate in abandoned.fates}
    said = (
        f"{abandoned.planted:,} carts were planted to be left for good; {answered:,} of them led to a message or a "
        "control. The bars are what the records say of each, and sum to the number planted."
    )
    wrong = "; ".join(f"{count:,} carts have {fate}" for fate, count in missing.items())
    drawing = charts.bars(rows, "What became of the abandoned carts", abandoned.planted, _emphasis)
    return page.section(
        "The planted carts, and what became of them",
        page.paragraph(said, "soft"),
        page.paragraph(f"Not every cart has exactly one record: {wrong}.", "plain alert") if wrong else "",
        page.figure(drawing),
        "<h3>All planted carts</h3>",
        page.table(("cart", "planted", "message", "control", "other record", "no record"), map(_cart_row, data.carts)),
    )


def _cart_row(carts: PlantedCarts) -> tuple[str, ...]:
    name, expected = labels.CARTS.get(carts.kind, (carts.kind, ""))
    sent, control, none = (carts.fates.get(fate, 0) for fate in (Reason.CHOSEN, Reason.CONTROL, NO_RECORD))
    other = carts.planted - sent - control - none
    return (
        f"{name}: {expected}" if expected else name,
        *(f"{n:,}" for n in (carts.planted, sent, control, other, none)),
    )


def _moments(data: ReportData) -> str:
    if not data.moments:
        return ""
    columns: Mapping[str, Callable[[str], bool]] = {
        "ended": lambda fate: bool(fate),
        "message": lambda fate: fate == Reason.CHOSEN,
        "control": lambda fate: fate == Reason.CONTROL,
        "hold-out": lambda fate: fate == Reason.HOLDOUT,
        "with another": lambda fate: fate == Reason.ALREADY_ANSWERED,
        "ended by event": lambda fate: fate == Reason.CANCELLED,
        "went stale": lambda fate: fate.startswith("expired"),
        "not worth it": lambda fate: fate.startswith("unmet"),
    }
    rows = [
        (moment, *(f"{sum(n for fate, n in fates.items() if belongs(fate)):,}" for belongs in columns.values()))
        for moment, fates in data.moments.items()
    ]
    return page.section("Moments, and how each came to its end", page.table(("moment", *columns), rows))


def _outcomes(data: ReportData, colors: Mapping[str, str], currency: str) -> str:
    results = data.results
    title = "What the campaigns were worth"
    covering, judged = results.covering
    honest = (
        "This is a replay of history, and history cannot react to a message: the true uplift of every campaign is 0. "
        "So the 95 % intervals of the differences, right at every look, should cover 0 in at least 19 of 20 cases. "
    )
    honest += f"Here {covering} of {judged} do." if judged else "There is not enough data yet to draw one."
    if not results.campaigns:
        return page.section(title, page.paragraph(honest, "plain"), page.paragraph("No window has closed yet.", "soft"))
    plain, signed = partial(labels.money, currency=currency), partial(labels.money, currency=currency, signed=True)
    rows: list[tuple[str, Interval | None]] = [(one.campaign, one.difference) for one in results.campaigns]
    rows += [("all together", results.together)] * (len(rows) > 1)
    left_out = f"Left out: {results.void:,} windows that late data took back. " * bool(results.void)
    left_out += f"Kept in: {results.contaminated:,} in which others wrote to the customer too." * bool(
        results.contaminated
    )
    return page.section(
        title,
        page.paragraph(honest, "plain"),
        "<h3>Difference, treatment minus control</h3>",
        page.figure(
            charts.differences(rows, lambda campaign: colors.get(campaign, "quiet"), signed),
            "Margin per measured window, with 95 % intervals, before the declared cost of sends and offers: in a "
            "replay nothing was spent. The dashed line is no effect.",
        ),
        "<h3>Both arms</h3>",
        page.figure(charts.arms(results.campaigns, colors.__getitem__, plain), left_out),
        page.details("The figures", _outcome_table(results.campaigns, plain, signed)),
    )


def _outcome_table(
    comparisons: tuple[Comparison, ...], plain: Callable[[float], str], signed: Callable[[float], str]
) -> str:
    head = ("campaign", "treated windows", "mean", "control windows", "mean", "difference", "95 % interval")
    rows = []
    for one in comparisons:
        difference = one.difference
        means = ["–" if arm.interval is None else plain(arm.interval.mean) for arm in (one.treatment, one.control)]
        last = ("not enough data yet", "")
        if difference is not None:
            last = (signed(difference.mean), f"{signed(difference.low)} to {signed(difference.high)}")
        rows.append((one.campaign, f"{one.treatment.windows:,}", means[0], f"{one.control.windows:,}", means[1], *last))
    return page.table(head, rows)


def _timelines(data: ReportData, colors: Mapping[str, str]) -> str:
    if not data.timelines:
        return ""
    campaigns = sorted({bar.campaign for one in data.timelines for bar in one.bars})
    legend = [(_swatch(colors[campaign]), campaign) for campaign in campaigns] + [
        (svg.rect(1, 1, 16, 12, "c0 control", radius=2), "control: the same slot without a message"),
        (svg.diamond(9, 7, 5, "holdout"), "hold-out decision"),
        (svg.diamond(9, 7, 5, "undone"), "taken back"),
        (charts.end_mark(9, 3, "expired"), "a moment went stale"),
        (charts.end_mark(9, 3, "cancelled"), "ended by an event"),
        (charts.end_mark(9, 3, "unmet"), "not worth answering"),
    ]
    said = (
        "The customers to whom most different things happened. A bar is the slot, from the decision to the end of its "
        "measurement window: no two bars of a customer overlap, and the audit proves it for everybody."
    )
    drawing = charts.timelines(data.timelines, data.first, data.last, colors.__getitem__)
    return page.section("Some customers' year", page.paragraph(said, "soft"), page.legend(legend), page.figure(drawing))


def _footer() -> str:
    return (
        "<footer><p>Made from the output topics alone: decisions, campaign triggers and campaign outcomes. "
        "Point at a shape to read its figures; <code>orchestrator why CUSTOMER</code> tells one customer’s whole story."
        "</p></footer>"
    )


def _swatch(class_: str) -> str:
    return svg.rect(1, 1, 16, 12, class_, radius=2)


def _emphasis(key: str) -> str:
    """Return what stands out: messages and controls, and what should not be there."""
    if key in {Reason.CHOSEN, Reason.CONTROL}:
        return "accent" if key == Reason.CHOSEN else "c0 control"
    return "bad" if key in {NO_RECORD, SEVERAL} else "quiet"

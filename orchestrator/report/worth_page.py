"""What campaigns were worth, as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from orchestrator.learning.intervals import Interval
from orchestrator.learning.uplift import MONEY, Comparison, Results
from orchestrator.report import charts, labels, page
from orchestrator.report.worth import Worth, return_on_cost
from orchestrator.report.worth_table import FIGURES, figures

TITLE = "What the campaigns are worth"

_LEAD = (
    "Treatment minus randomised control per measurement window, intention to treat: every order in the window counts, "
    "whoever clicked. The intervals hold however often one looks: 95 of 100 campaigns never leave theirs."
)
_MANY = (
    "Of many groups some look good by chance. What is marked as found is, of ten such marks, false once at most; all "
    "the rest is exploratory: a hint for the next experiment, no result."
)


def render(worth: Worth, *more: str) -> str:
    """Return the page; `more` are sections about the program as a whole."""
    campaigns = worth.results.campaigns
    if not campaigns:
        empty = page.paragraph("No window has closed yet.")
        return page.page(TITLE, f"<header><h1>{TITLE}</h1></header>", empty, *more)
    colors = {one.campaign: f"c{number % page.COLORS}" for number, one in enumerate(campaigns)}
    return page.page(
        TITLE,
        f"<header><h1>{TITLE}</h1>{page.paragraph(_LEAD, 'lead')}</header>",
        page.section(
            "Difference per window",
            *_by_metric(worth, campaigns, colors, worth.results.together),
            _campaigns(worth, campaigns),
            page.facts((one.campaign, worth.verdict(one)) for one in campaigns),
        ),
        _guardrails(worth, colors),
        _parts(worth, "Per offer and channel", worth.by_arm, colors),
        _parts(worth, "Per segment", worth.by_segment, colors),
        _over_time(worth, colors),
        _both_arms(worth, colors),
        *more,
    )


def _campaigns(worth: Worth, campaigns: Iterable[Comparison]) -> str:
    """Return the table of the campaigns; in a replay nothing was spent, so nothing can return on it."""
    spent = ("return on cost",) if worth.net else ()
    rows = [(worth.name(one), *figures(worth, one), return_on_cost(one)) for one in campaigns]
    return page.table(("campaign", *FIGURES, *spent), [row if spent else row[:-1] for row in rows])


def _by_metric(
    worth: Worth, comparisons: Iterable[Comparison], colors: Mapping[str, str], together: Interval | None = None
) -> list[str]:
    """Return a drawing per unit of measure: what is counted and what is earned have no axis in common."""
    by_metric: dict[str, list[Comparison]] = {}
    for one in comparisons:
        by_metric.setdefault(one.metric, []).append(one)
    parts = []
    for metric, found in sorted(by_metric.items()):
        rows: list[tuple[str, Interval | None]] = [(one.group or one.campaign, one.difference) for one in found]
        color = {one.group or one.campaign: colors[one.campaign] for one in found}
        rows += [("all together", together)] * (together is not None and len(rows) > 1)
        color["all together"] = "quiet"
        notes = {one.group: "found" for one in found if one.group and worth.label(one).startswith("found")}
        drawing = charts.differences(rows, color.__getitem__, _signed(worth, metric), notes)
        said = labels.metric(metric).capitalize() + (", net of cost" if worth.net and metric in MONEY else "")
        parts.append(page.figure(drawing, f"{said}, treatment minus control. The dashed line is no effect."))
    return parts


def _guardrails(worth: Worth, colors: Mapping[str, str]) -> str:
    pairs = list(zip(worth.margin.campaigns, worth.unsubscribed.campaigns, strict=True))
    said = (
        "Not worse: the interval rules out a loss of a tenth of the control's margin, or half a percentage point more "
        "customers who unsubscribe. Worse: it rules out that there is no loss."
    )
    verdicts = [(money.campaign, worth.standing(money), worth.standing(gone)) for money, gone in pairs]
    spans = [
        (money.campaign, worth.span(money.difference), worth.span(gone.difference, gone.metric))
        for money, gone in pairs
    ]
    return page.section(
        "Guardrails",
        page.paragraph(said, "soft"),
        page.table(("campaign", "margin", "unsubscribes"), verdicts),
        *_by_metric(worth, worth.unsubscribed.campaigns, colors),
        page.details("The figures", page.table(("campaign", "margin per window", "unsubscribed"), spans)),
    )


def _parts(worth: Worth, title: str, results: Results, colors: Mapping[str, str]) -> str:
    if not results.campaigns:
        return ""
    by_campaign: dict[str, list[Comparison]] = {}
    for one in results.campaigns:
        by_campaign.setdefault(one.campaign, []).append(one)
    parts = [page.paragraph(_MANY, "soft")]
    silent = []
    for campaign, found in by_campaign.items():
        if all(one.difference is None for one in found):
            silent.append(campaign)
            continue
        rows = [(one.group, *figures(worth, one), worth.label(one)) for one in found]
        parts += [f"<h3>{campaign}</h3>", *_by_metric(worth, found, colors)]
        parts.append(page.details("The figures", page.table(("", *FIGURES, "so far"), rows)))
    if silent:
        parts.append(page.paragraph(f"Not enough data yet in any part: {', '.join(silent)}.", "soft"))
    return page.section(title, *parts)


def _over_time(worth: Worth, colors: Mapping[str, str]) -> str:
    if len(worth.looks) < 2 or not _known(worth):
        return ""
    by_look = [{one.campaign: one.difference for one in then.campaigns} for then in worth.known_then]
    drawings = []
    for metric, found in _known(worth):
        rows = [(one.campaign, [look.get(one.campaign) for look in by_look]) for one in found]
        drawings.append(page.figure(charts.courses(worth.looks, rows, colors.__getitem__, _signed(worth, metric))))
    said = "At the end of each month, from all windows until then."
    return page.section("What was known when", page.paragraph(said, "soft"), *drawings)


def _both_arms(worth: Worth, colors: Mapping[str, str]) -> str:
    drawings = []
    for metric, found in _known(worth):
        drawings.append(page.figure(charts.arms(found, colors.__getitem__, partial(worth.said, metric=metric))))
    return page.section("Both arms", *drawings, page.paragraph(_left_out(worth), "soft"))


def _known(worth: Worth) -> list[tuple[str, list[Comparison]]]:
    """Return the campaigns of which anything is known, by what they are measured in."""
    known = [one for one in worth.results.campaigns if one.difference is not None]
    metrics = sorted({one.metric for one in known})
    return [(metric, [one for one in known if one.metric == metric]) for metric in metrics]


def _left_out(worth: Worth) -> str:
    results = worth.results
    said = [
        (results.void, f"Left out: {results.void:,} windows that late data took back."),
        (results.interrupted, f"Left out: {results.interrupted:,} windows that another campaign cut short."),
        (
            results.contaminated,
            f"Kept in: {results.contaminated:,} windows in which others wrote to the customer too; without them: "
            + "; ".join(
                f"{one.campaign} {worth.span(one.difference, one.metric)}"
                for one in worth.undisturbed.campaigns
                if one.difference is not None
            )
            + ".",
        ),
    ]
    return " ".join(text for count, text in said if count)


def _signed(worth: Worth, metric: str) -> partial[str]:
    return partial(worth.said, metric=metric, signed=True)

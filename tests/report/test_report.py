"""The report is one file, says what the records say, and its figures add up."""

import re
from html.parser import HTMLParser
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from orchestrator.demo.truth import CartKind, PlantedCart
from orchestrator.reasons import Reason
from orchestrator.report import labels, svg
from orchestrator.report.data import NO_RECORD, SEVERAL, WEEK, ReportData
from orchestrator.report.document import render
from orchestrator.report.summary import summary
from tests.learning.test_uplift import both_arms
from tests.test_audit import DAY, decision, send

MONDAY = 1_483_315_200_000  # 2 January 2017


def ended(cart: str, state: str, reason: str) -> dict[str, Any]:
    """Return the end of an abandoned cart."""
    base = {"moment": "abandoned_cart", "moment_key": cart, "started_at": MONDAY, "opened_at": MONDAY, "by": ""}
    return base | {"state": state, "reason": reason}


def cart(name: str, kind: CartKind = "abandoned", customer: str = "ana") -> PlantedCart:
    """Return a planted cart."""
    return PlantedCart(customer, name, kind, MONDAY, MONDAY, 5000)


def year() -> dict[str, Any]:
    """Return the arguments of a small fold in which everything happens once."""
    sent = decision("d1", at=MONDAY, until=MONDAY + 7 * DAY, ended=[ended("c1", "acted", "chosen")])
    control = decision("d2", at=MONDAY + 8 * DAY, until=MONDAY + 15 * DAY, arm="control", reason="control")
    control |= {"trigger_id": None, "campaign": "birthday", "ended": [ended("c2", "acted", "control")]}
    held = decision("d3", at=MONDAY + 9 * DAY, reason="slot_held", ended=[ended("c3", "expired", "slot_held")])
    holdout = decision("d4", at=MONDAY + DAY, customer_id="ben", arm="holdout", reason="holdout")
    void = decision("d5", at=MONDAY + 2 * DAY, kind="void", arm="treatment", voids="d1", campaign="cart")
    closing = decision("d6", at=MONDAY + 3 * DAY, kind="closing", reason="cancelled")
    closing["ended"] = [ended("c4", "cancelled", "cancelled"), ended("c5", "unmet", "not_eligible")]
    twice = decision("d7", at=MONDAY + 4 * DAY, kind="closing", reason="expired")
    twice["ended"] = [ended("c6", "expired", "expired"), ended("c6", "expired", "expired")]
    return {
        "decisions": [sent, void, closing, twice, control, held, holdout],
        "triggers": [send(sent), send(sent, action="retract")],
        "outcomes": both_arms(60),
        "summary": {"events": "12 <&> more"},
        "planted": [*(cart(f"c{number}") for number in range(1, 8)), cart("b1", "bought_in_time")],
    }


def test_decisions_are_counted_by_what_they_are() -> None:
    """Only choices have a reason to show; voids and closings are counted apart."""
    data = ReportData.fold(**year())

    assert (data.decisions, data.sends, data.retracts, data.customers, data.slots) == (7, 1, 1, 2, 2)
    assert data.kinds == {"choice": 4, "void": 1, "closing": 2}
    assert data.reasons == {"chosen": 1, "control": 1, "holdout": 1, "slot_held": 1}
    assert data.arms == {"treatment": 1, "control": 1, "none": 1, "holdout": 1}
    assert (data.first, data.last) == (MONDAY, MONDAY + 9 * DAY)


def test_fates_sum_to_the_number_planted() -> None:
    """Every planted cart is in exactly one bar, also where there is no record or more than one."""
    by_kind = {carts.kind: carts for carts in ReportData.fold(**year()).carts}

    assert by_kind["abandoned"].fates == {
        "chosen": 1,
        "control": 1,
        "expired: slot_held": 1,
        "cancelled": 1,
        "unmet: not_eligible": 1,
        SEVERAL: 1,
        NO_RECORD: 1,
    }
    assert by_kind["bought_in_time"].fates == {NO_RECORD: 1}
    assert all(sum(carts.fates.values()) == carts.planted for carts in by_kind.values())


def test_another_customers_cart_of_the_same_name_is_another() -> None:
    """A cart is known by its customer and its id."""
    given = year() | {"planted": [cart("c1", customer="ben")]}

    assert ReportData.fold(**given).carts[0].fates == {NO_RECORD: 1}


def test_weeks_begin_on_monday_and_leave_no_gap() -> None:
    """A week without a trigger is a week with an empty bar."""
    first, last = (decision(f"d{n}", at=at, until=at + 1) for n, at in enumerate((MONDAY - 1, MONDAY + WEEK + DAY)))
    data = ReportData.fold([], [send(first), send(last), send(last, campaign="other")], [])

    assert data.weeks == (MONDAY - WEEK, MONDAY, MONDAY + WEEK)
    assert data.triggers_by_week == {"cart": (1, 0, 1), "other": (0, 0, 1)}


def test_timelines_are_of_those_to_whom_most_happened() -> None:
    """The choice depends on the records only, and never on their order."""
    given = year()
    shuffled = given | {"decisions": sorted(given["decisions"], key=lambda record: -record["decided_at"])}
    data = ReportData.fold(**given)

    assert [timeline.customer for timeline in data.timelines] == ["ana", "ben"]
    assert {mark.kind for mark in data.timelines[0].marks} == {"void", "cancelled", "unmet", "expired"}
    assert data.timelines[0].marks == ReportData.fold(**shuffled).timelines[0].marks


class _Page(HTMLParser):
    """Collects what a page asks for, what it shows, and whether its elements are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.asked: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.asked += [value or "" for name, value in attrs if name in {"src", "href", "srcset", "data"}]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: str) -> _Page:
    """Return the page as a browser takes it in."""
    parser = _Page()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


def test_page_is_self_contained() -> None:
    """It can be mailed: no script, no font, no image, no address."""
    page = render(ReportData.fold(**year()))

    assert read(page).asked == []
    assert not re.search(r"https?:|//|@import|url\(|<script|<link|<img", page.replace("<!doctype html>", ""))


def test_page_says_what_matters() -> None:
    """The plain statement about replays, the figures, every section, and the alarm when carts are unaccounted for."""
    text = read(render(ReportData.fold(**year()))).text

    assert "the true uplift of every campaign is 0" in text
    assert "Here 0 of 1 do." in text
    assert "7 carts were planted to be left for good; 2 of them led to a message or a control" in text
    assert "Not every cart has exactly one record: 1 carts have no record; 1 carts have several records" in text
    assert "12 <&> more" in text
    for heading in ("Messages over time", "What was decided", "Moments, and how", "worth", "customers' year"):
        assert heading in text


def test_page_of_nothing_is_still_a_page() -> None:
    """An empty run has a report that says so."""
    text = read(render(ReportData.fold([], [], []))).text

    assert "No decision was recorded." in text
    assert "No message was triggered." in text
    assert "No window has closed yet." in text


def test_same_records_make_the_same_page() -> None:
    """Nothing of the machine or the hour is in it."""
    assert render(ReportData.fold(**year())) == render(ReportData.fold(**year()))


def test_text_from_records_is_not_markup() -> None:
    """A campaign's name cannot break the page."""
    bad = decision("d1", at=MONDAY, until=MONDAY + DAY, campaign='<b onclick="x">&', customer_id="<i>")
    page = render(ReportData.fold([bad], [send(bad)], []))

    assert "<b onclick" not in page
    assert "<i>" not in page
    assert '<b onclick="x">&' in read(page).text


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_short_form(reason: Reason) -> None:
    """Charts have a few words for each, also where a moment went stale or was not worth answering."""
    assert labels.reason(reason) == labels.SHORT[reason]
    assert labels.fate(f"expired: {reason}") == f"went stale: {labels.SHORT[reason]}"
    assert labels.reason("budget_spent") == "budget spent"


@pytest.mark.parametrize(
    ("value", "currency", "signed", "expected"),
    [
        (123456, "USD", False, "$1,234.56"),
        (-42, "USD", True, "−$0.42"),
        (42, "EUR", True, "+€0.42"),
        (0.2, "CHF", True, "CHF 0.00"),
        (5, "", False, "0.05"),
    ],
)
def test_money(value: float, currency: str, signed: bool, expected: str) -> None:
    """Minor units are shown as amounts."""
    assert labels.money(value, currency, signed) == expected


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 0), (-3.2, 8.7), (0, 399), (1e-6, 2e-6), (-1e9, 0)])
def test_ticks_are_few_round_and_enclose(low: float, high: float) -> None:
    """Every axis reaches from at most the lowest to at least the highest value."""
    marks = svg.ticks(low, high)

    assert marks[0] <= low
    assert marks[-1] >= high
    assert 2 <= len(marks) <= 8
    assert marks == sorted(set(marks))


def test_terminal_summary_shows_the_same_figures() -> None:
    """Whoever does not open the report sees the essentials anyway."""
    console = Console(width=120, record=True, file=StringIO())
    console.print(summary(ReportData.fold(**year())))
    text = console.export_text()

    assert "7 about 2 customers" in text
    assert "The 7 planted abandoned carts" in text
    assert "2 led to a message or a control; the rows sum to 7" in text
    assert "the true uplift is 0" in text

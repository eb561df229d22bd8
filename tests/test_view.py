"""What conditions see of a customer: values computed from others."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.customer import Customer
from orchestrator.events import FOREVER
from orchestrator.features import Feature
from orchestrator.reference import Reference
from orchestrator.rhythm import STAGES
from orchestrator.view import CustomerView
from tests.builders import FEATURES, instant, program

NOW = instant("9d 00:00")
SPEND = Feature("spend", "sum", ("order.placed",), field="total", unit="money")
TIER = Feature("tier", "quantile", of="spend", bands=(("high", 40_000), ("mid", 10_000), ("low", -FOREVER)))
STAGE = Feature("stage", "stage", of="order_gap", unit="text")
COMPILED = program(features=[*FEATURES, SPEND, TIER, STAGE])


def view(spend: int, reference: Reference | None = None) -> CustomerView:
    """Return the view of a customer who has spent so much."""
    customer = Customer()
    customer.set_fact(COMPILED.features["spend"].name, spend)
    return CustomerView(COMPILED, Reference() if reference is None else reference, customer, NOW)


def test_a_band_is_the_highest_whose_least_value_is_reached() -> None:
    """The cut points of the definitions, both ends included; also who owes us money is in a band."""
    spent = {40_000: "high", 39_999: "mid", 10_000: "mid", 9_999: "low", 0: "low", -5: "low"}

    assert {amount: view(amount).read("feature", "tier", None) for amount in spent} == spent


def test_a_snapshot_of_all_customers_counts_from_its_instant() -> None:
    """What the definitions say is for the time before the first one."""
    reference = Reference()
    reference.put_cut_points("tier", NOW + 1, {"high": 1, "mid": 0})
    assert view(5_000, reference).read("feature", "tier", None) == "low"

    reference.put_cut_points("tier", NOW - 1, {"high": 9_000, "mid": 5_000})
    reference.put_cut_points("tier", NOW, {"high": 5_000, "mid": 100})
    assert view(5_000, reference).read("feature", "tier", None) == "high"
    assert reference.cut_points("other", NOW) is None


def test_without_cut_points_and_before_the_first_snapshot_a_band_is_unknown() -> None:
    """Also where a snapshot lacks the band that an amount might be in, as after a band was added."""
    bare = replace(TIER, bands=(("high", None), ("mid", None), ("low", -FOREVER)))
    compiled, customer, reference = program(features=[*FEATURES, SPEND, bare]), Customer(), Reference()
    customer.set_fact(compiled.features["spend"].name, 5_000)
    seen = CustomerView(compiled, reference, customer, NOW)
    assert seen.read("feature", "tier", None) is None

    reference.take("snapshot", {"feature": "tier", "effective_from": NOW - 1, "least": {"high": 9_000}})
    assert seen.read("feature", "tier", None) is None
    reference.take("snapshot", {"feature": "tier", "effective_from": NOW, "least": {"high": 5_000}})
    assert seen.read("feature", "tier", None) == "high"
    reference.take("snapshot", {"feature": "tier", "effective_from": NOW, "least": {"high": 9_000, "mid": 6_000}})
    assert seen.read("feature", "tier", None) == "low"


def test_a_stage_is_read_from_the_times_a_rhythm_keeps() -> None:
    """Nothing is kept twice, and who never bought is new."""
    customer = Customer()
    seen = CustomerView(COMPILED, Reference(), customer, NOW)
    assert seen.read("feature", "stage", None) == STAGES[0]

    customer.set_fact(COMPILED.features["order_gap"].name, [NOW // 1000 - 86_400 * days for days in (400, 300, 200)])
    assert seen.read("feature", "stage", None) == "lapsed"

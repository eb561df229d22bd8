"""Predictions built in and told by a topic, stages that are told apart, and moments within moments within moments."""

from __future__ import annotations

from orchestrator.definitions.catalogue import CATALOGUE, EventType
from orchestrator.definitions.load import load
from orchestrator.definitions.nodes import Problems
from orchestrator.definitions.scenario_run import run_scenario
from orchestrator.definitions.scenarios import parse_scenarios

TOLD = CATALOGUE.extended(
    [
        EventType("reorder.predicted", "ml.reorder", {"product_family": "text", "next_order_date": "instant"}),
        EventType("life.predicted", "ml.p_alive", {"p_alive": "number"}),
    ]
)
CAMPAIGN = """
campaigns:
  - campaign: hello
    when: {moment}
    send: {{ channel: email, template: hello }}
    measure: {{ for: 1d }}
    control: {{ start: 10% }}
"""


def check(definitions: str, tests: str, moment: str = "m") -> None:
    """Load definitions and run tests of them, without any problem and any failure."""
    loaded, problems = load({"x": definitions + CAMPAIGN.format(moment=moment)}, TOLD)
    assert [problem for problem in problems if problem.severity == "error"] == []
    assert loaded is not None
    found = Problems()
    scenarios = parse_scenarios(tests, "x.test.yaml", loaded, found, TOLD)
    assert found.sorted() == []
    assert scenarios
    for scenario in scenarios:
        assert [f"{f.expected}; {f.happened}" for f in run_scenario(scenario, loaded)] == []


AROUND = """
features:
  due: {{ predict: next_order_date, key: {key}, from: order.placed{more} }}
moments:
  - moment: m
    say: "About to run out"
    key: {key}
    around: {{ date: due, from: -2d, to: +3d }}
    lasts: window
"""


def test_a_date_that_a_topic_tells() -> None:
    """The newest that was told counts."""
    check(
        AROUND.format(key="product_family", more=", model: topic:ml.reorder"),
        """
        tests:
          - name: told twice
            given:
              - { at: 0d, event: reorder.predicted, product_family: soap, next_order_date: 20d }
              - { at: 1d, event: reorder.predicted, product_family: soap, next_order_date: 40d }
            expect:
              - { at: 21d, moment: m, is: waiting, key: soap }
              - { at: "2025-04-10T15:00Z", moment: m, is: acted, key: soap }
        """,
    )


def test_a_probability_that_a_topic_tells() -> None:
    """It is compared like the one that is built in."""
    check(
        """
        features: { alive: { predict: p_alive, from: order.placed, model: "topic:ml.p_alive" } }
        segments: { going: { say: "Probably gone", is: "alive < 1" } }
        moments: [ { moment: m, say: "Going", entered: going, lasts: 5d } ]
        """.replace("\n        ", "\n"),
        """
        tests:
          - name: told
            given:
              - { at: 0d, event: life.predicted, p_alive: 1 }
              - { at: 2d, event: life.predicted, p_alive: 0 }
            expect:
              - { at: 1d, moment: m, is: absent }
              - { at: 3d, moment: m, is: acted }
        """,
    )


def test_a_date_per_sku() -> None:
    """Pooled with what the product itself says of how long it lasts; what does not run out has no date."""
    check(
        AROUND.format(key="sku", more=", else: product.typical_days_of_supply"),
        """
        tests:
          - name: ordered once
            products:
              - { sku: SOAP, category: care, typical_days_of_supply: 20 }
              - { sku: LAMP, category: home }
            given:
              - { at: 0d, event: order.placed, lines: [ { sku: SOAP, price: 2 }, { sku: LAMP, price: 40 } ] }
            expect:
              - { at: 17d, moment: m, is: waiting, key: SOAP }
              - { at: 19d, moment: m, is: acted, key: SOAP }
              - { at: 60d, triggers: [hello] }
        """,
    )


def test_a_date_per_category() -> None:
    """The customer's own gaps alone: before there is one, nobody knows."""
    check(
        AROUND.format(key="category", more=""),
        """
        tests:
          - name: ordered twice
            products: [ { sku: SOAP, category: care } ]
            given:
              - { at: 0d, event: order.placed, lines: [ { sku: SOAP, price: 2 } ] }
              - { at: 30d, event: order.placed, lines: [ { sku: SOAP, price: 2 } ] }
            expect:
              - { at: 29d, moment: m, is: absent }
              - { at: 57d, moment: m, is: waiting, key: care }
              - { at: 59d, moment: m, is: acted, key: care }
        """,
    )


def test_stages_left_out_count_as_the_next() -> None:
    """Without lapsed those are at risk for good; without hero and new they are active."""
    check(
        """
        features: { life: { stage: [at_risk, active], from: order.placed } }
        segments: { late: { say: "At risk", is: "life == 'at_risk'" } }
        moments: [ { moment: m, say: "At risk", entered: late, lasts: 400d } ]
        time: { never_act_on_moments_older_than: 24h }
        """.replace("\n        ", "\n"),
        """
        tests:
          - name: silent for long
            given:
              - { at: 0d, event: order.placed, lines: [ { sku: SOAP, price: 2 } ] }
            expect:
              - { at: 40d, moment: m, is: absent }
              - { at: 300d, moment: m, is: acted }
        """,
    )


def test_a_moment_during_one_that_lives_during_another() -> None:
    """It opens with the first when all conditions hold, and ends with what ends the first."""
    definitions = """
features: { seen: { count: site.visited } }
moments:
  - { moment: inner, say: "Inner", during: middle, only_if: "seen >= 2", lasts: window }
  - { moment: middle, say: "Middle", during: outer, only_if: "seen >= 1", lasts: window }
  - moment: outer
    say: "Left a cart"
    key: cart_id
    starts_on: { event: cart.item_added }
    unless: { event: order.placed, within: 1h }
    lasts: 2d
"""
    check(
        definitions,
        """
        tests:
          - name: both conditions come true one after the other
            start: "2025-03-03T12:00Z"
            given:
              - { at: 0h, profile: { consent: { email: refused } } }
              - { at: 0h, event: cart.item_added, cart_id: c1 }
              - { at: 2h, event: site.visited }
              - { at: 4h, event: site.visited }
              - { at: 6h, event: order.placed }
            expect:
              - { at: 1h30m, moment: outer, is: open, key: c1 }
              - { at: 1h30m, moment: middle, is: waiting, key: c1 }
              - { at: 3h, moment: middle, is: open, key: c1 }
              - { at: 3h, moment: inner, is: waiting, key: c1 }
              - { at: 5h, moment: inner, is: open, key: c1 }
              - { at: 7h, moment: inner, is: cancelled, key: c1 }
              - { at: 7h, moment: middle, is: cancelled, key: c1 }
        """,
        moment="[inner, middle, outer]",
    )

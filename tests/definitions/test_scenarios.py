"""Tests that marketers write: what they can say, and what they read when one fails."""

# ruff: noqa: E501 (messages are compared whole)

from __future__ import annotations

import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from orchestrator.cli import main
from orchestrator.definitions.load import load
from orchestrator.definitions.nodes import Problems
from orchestrator.definitions.scenario_run import Failure, run_scenario
from orchestrator.definitions.scenarios import parse_scenarios
from orchestrator.program import Definitions
from orchestrator.runtime.definitions_folder import read_directory

RETAIL = Path(__file__).resolve().parents[2] / "deploy" / "definitions" / "retail"


def retail(zone: str = "Europe/Madrid") -> Definitions:
    """Return the retail pack for customers who live in a zone unless they say otherwise."""
    texts = {path: text.replace("America/New_York", zone) for path, text in read_directory(RETAIL).items()}
    definitions, _ = load(texts)
    assert definitions is not None
    return definitions


def run(text: str) -> list[Failure]:
    """Return what fails of a test file."""
    definitions, problems = retail(), Problems()
    scenarios = parse_scenarios(text, "a.test.yaml", definitions, problems)
    assert problems.sorted() == []
    return [failure for scenario in scenarios for failure in run_scenario(scenario, definitions)]


def problems_of(text: str) -> list[str]:
    """Return what is wrong with a test file."""
    problems = Problems()
    parse_scenarios(text, "a.test.yaml", retail(), problems)
    return [str(problem) for problem in problems.sorted()]


CART = '{ at: "2025-03-01T10:00Z", customer: ana, event: cart.item_added, cart_id: c1, sku: A1, cart_total: 40 }'


def test_a_failure_shows_place_expectation_truth_and_the_customers_history() -> None:
    """What one needs to mend either the test or the definitions is in the failure."""
    (failure,) = run(f"""tests:
  - name: too hasty
    given:
      - {CART}
    expect:
      - {{ at: "2025-03-01T10:59Z", moment: abandoned_cart, is: open }}
""")

    assert str(failure.expect.place) == "a.test.yaml:6:9"
    assert failure.expected == "abandoned_cart is open"
    assert failure.happened == "abandoned_cart is waiting"
    assert any("cart.item_added" in line for line in failure.timeline)


@pytest.mark.parametrize(
    ("expectation", "truth"),
    [
        ("campaign: cart_rescue, is: not_sent", "cart_rescue is chosen"),
        ("campaign: cart_rescue, is: chosen, key: c2", "cart_rescue is not_sent"),
        ("campaign: cart_rescue, is: retracted", "cart_rescue is chosen"),
        ("triggers: []", "triggers: [cart_rescue]"),
        ("triggers: [cart_rescue, cart_rescue]", "triggers: [cart_rescue]"),
        ("moment: abandoned_cart, is: absent", "abandoned_cart is acted"),
        ("moment: lapsed, is: open", "lapsed is absent"),
    ],
)
def test_an_expectation_that_does_not_hold_fails(expectation: str, truth: str) -> None:
    """No kind of expectation is satisfied by something else."""
    (failure,) = run(f"""tests:
  - name: wrong
    given: [{CART}]
    expect: [{{ at: "2025-03-01T12:00Z", {expectation} }}]
""")

    assert failure.happened == truth


@pytest.mark.parametrize(
    ("given", "expect", "problem"),
    [
        (CART.replace("cart_id", "cart"), "at: 1h, triggers: []", "3:79: E041 cart.item_added has no property 'cart', did you mean 'cart_id'?"),
        (CART.replace("item_added", "item_aded"), "at: 1h, triggers: []", "3:62: E040 unknown event 'cart.item_aded', did you mean 'cart.item_added'?"),
        (CART, "at: 1h, campaign: cart_resque, is: chosen", "4:34: E027 unknown campaign 'cart_resque', did you mean 'cart_rescue'?"),
        (CART, "at: 1h, moment: abandoned_cart, is: opened", "4:52: E027 unknown state 'opened', did you mean 'open'?"),
        (CART, "at: soon, triggers: []", "4:20: E024 'soon' is not an instant, write it like 90m after the start, or 2025-03-01T10:00Z"),
        (CART, "at: 999999d, triggers: []", "4:20: E024 '999999d' is not an instant, write it like 90m after the start, or 2025-03-01T10:00Z"),
        (CART, "at: 99999d, triggers: []", "4:20: E016 '99999d' is too far away, tests happen between the years 1970 and 2100"),
        ("{ at: 0m, event: order.placed, lines: [{ sku: A1, price: much }] }", "at: 1h, triggers: []", "3:70: E021 'much' is not an amount of money, write it like 5 or 4.90"),
        ("{ at: 0m, event: message.opened, machine: perhaps }", "at: 1h, triggers: []", "3:55: E029 'perhaps' is neither true nor false"),
        (CART, "at: 1h", "4:14: E013 expect something about one of 'moment', 'campaign' and 'triggers'"),
        (CART, "at: 1h, moment: abandoned_cart", "4:14: E011 'is' is missing: one of absent, waiting, open, acted, cancelled, expired, unmet"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_test_file_has_its_place(given: str, expect: str, problem: str) -> None:
    """A misspelt word in a test is an error with a suggestion, not a test that passes."""
    found = problems_of(f"tests:\n  - name: wrong\n    given: [{given}]\n    expect: [{{ {expect} }}]\n")

    assert found == [f"a.test.yaml:{problem}"]


def test_the_retail_pack_passes_its_own_tests_in_a_second() -> None:
    """`orchestrator test` on the shipped pack is green and quick."""
    started = time.monotonic()
    result = CliRunner().invoke(main, ["test", str(RETAIL)])

    assert result.exit_code == 0, result.output
    assert " 0 failed" in result.output
    assert time.monotonic() - started < 1.0


def test_the_command_fails_and_says_so_when_a_test_fails(tmp_path: Path) -> None:
    """Exit code 1, and one line per thing that went wrong."""
    for path, text in read_directory(RETAIL).items():
        (tmp_path / Path(path).name).write_text(text)
    wrong = "tests:\n  - name: never\n    given: []\n    expect: [{ at: 1h, triggers: [cart_rescue] }]\n"
    (tmp_path / "wrong.test.yaml").write_text(wrong)

    result = CliRunner().invoke(main, ["test", str(tmp_path)])

    assert result.exit_code == 1
    assert "wrong.test.yaml:4:14: never" in result.output
    assert "1 failed" in result.output


# --- series -----------------------------------------------------------------------------------------------------------

SERIES = """
moments:
  - moment: abandoned_cart
    say: "Did not buy"
    key: cart_id
    starts_on: { event: cart.item_added }
    unless: { event: order.placed, within: 1h }
    lasts: 48h
campaigns:
  - campaign: discovery
    when: abandoned_cart
    series:
      - { step: inspire, send: { channel: email, template: inspire, purpose: service } }
      - { step: nudge, after: 4d, unless: { event: message.clicked, from: inspire }, send: { channel: sms, template: nudge } }
    stop_when: [{ event: order.placed }]
    measure: { objective: margin, for: 7d }
    control: 10%
"""


def outcome_of(given: str, expect: str) -> list[str]:
    """Return what happened instead, for every expectation of a series that did not hold."""
    definitions, problems = load({"x.yaml": SERIES})
    assert definitions is not None, problems
    text = f"tests:\n  - name: it\n    given: [{given}]\n    expect: [{{ {expect} }}]\n"
    found = Problems()
    [scenario] = parse_scenarios(text, "x.test.yaml", definitions, found)
    return [failure.happened for failure in run_scenario(scenario, definitions)]


LEFT = "{ at: 0m, event: cart.item_added, cart_id: c1, cart_total: 40 }"


@pytest.mark.parametrize(
    ("given", "expect"),
    [
        (LEFT, "at: 1h, campaign: discovery, step: inspire, is: chosen"),
        (LEFT, "at: 4d1h5m, campaign: discovery, step: nudge, is: chosen, key: c1"),
        (LEFT, "at: 5d, campaign: discovery, is: chosen"),
        (LEFT, "at: 3d, campaign: discovery, step: nudge, is: not_sent"),
        (
            f"{LEFT}, {{ at: 1d, event: order.placed }}",
            "at: 1d, campaign: discovery, step: nudge, is: not_sent, because: stopped, by: order.placed",
        ),
        (
            "{ at: 0d, decided: discovery }, { at: 1d, event: message.clicked, campaign: discovery }",
            "at: 4d, campaign: discovery, step: nudge, is: not_sent, because: cancelled",
        ),
        (
            f"{LEFT}, {{ at: 4d1h, event: order.placed, arrives: 4d1h30m }}",
            "at: 4d2h, campaign: discovery, step: nudge, is: retracted",
        ),
    ],
)
def test_steps_of_a_series(given: str, expect: str) -> None:
    """Each is asked about by its name; the first is decided with the campaign. Everybody agrees to every purpose."""
    assert outcome_of(given, expect) == []


SNAPSHOT = "{{ at: {at}, snapshot: value_tier, high: {high}, mid: 50 }}"


@pytest.mark.parametrize(("high", "sent"), [("400", "is: chosen"), ("400.01", "is: not_sent")])
def test_a_snapshot_says_who_is_in_a_tier_from_then_on(high: str, sent: str) -> None:
    """And from the instant of the next, that one does: by the cut points of the pack ana's 400 would be little."""
    failures = run(f"""
tests:
  - name: the birthday of a good customer who has gone quiet
    start: "2025-01-01T00:00Z"
    given:
      - {{ at: 0m, profile: {{ birth_date: "1990-03-20", time_zone: "Europe/Madrid" }} }}
      - {{ at: 0m, event: order.placed, total: 400 }}
      - {{ at: 20d, event: message.sent }}
      - {SNAPSHOT.format(at="1d", high="100000")}
      - {SNAPSHOT.format(at="2d", high=high)}
    expect:
      - {{ at: "2025-03-14T09:00Z", campaign: vip_birthday_comeback, {sent} }}
""")

    assert failures == []


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (
            "snapshot: value_teir, high: 4, mid: 2",
            "3:33: E043 unknown quantile 'value_teir', did you mean 'value_tier'?",
        ),
        ("snapshot: value_tier, high: 4", "3:33: E011 the snapshot of value_tier has no 'mid', or no plain value"),
        ("snapshot: value_tier, high: 4, mid: 2, low: 0", "3:67: E044 'low' is no band of value_tier above the lowest"),
        (
            "snapshot: value_tier, high: much, mid: 2",
            "3:51: E021 'much' is not an amount of money, write it like 5 or 4.90: no currency, at most two decimals",
        ),
    ],
)
def test_what_is_wrong_in_a_snapshot_has_its_place(given: str, problem: str) -> None:
    """Each of its problems once."""
    text = f"tests:\n  - name: wrong\n    given: [{{ at: 0m, {given} }}]\n    expect: [{{ at: 1h, triggers: [] }}]\n"
    assert problems_of(text) == [f"a.test.yaml:{problem}"]


BY_VALUE = """
moments:
  - moment: cart_left
    say: "Left a cart"
    key: cart_id
    starts_on: { event: cart.item_added }
    unless: { event: order.placed, within: 1h }
    lasts: 2d
features:
  orders: { count: order.placed }
segments:
  buyers: { say: "Bought before", is: "orders >= 1" }
campaigns:
  - campaign: rescue
    when: cart_left
    priority: 80
    send: { channel: email, template: rescue }
    measure: { objective: margin, for: 7d }
    control: 90%
  - campaign: gift
    when: cart_left
    send: { channel: sms, template: gift }
    offer: { choose: [none, pct_10] }
    measure: { objective: margin, for: 7d }
    control: 10%
choose: { method: METHOD, by: buyers, explore: { start: 100%, floor: 100% } }
"""


def by_value(given: str, expect: str, method: str = "expected_value") -> list[str]:
    """Return the problems of a test of a choice by value, or else what happened instead of what was expected."""
    definitions, problems = load({"x.yaml": BY_VALUE.replace("METHOD", method)})
    assert definitions is not None, problems
    left = LEFT.replace("0m", "1d")
    text = f"tests:\n  - name: it\n    given: [{given}, {left}]\n    expect: [{{ at: 1d1h5m, {expect} }}]\n"
    found = Problems()
    scenarios = parse_scenarios(text, "x.test.yaml", definitions, found)
    failures = [failure for scenario in scenarios for failure in run_scenario(scenario, definitions)]
    return [str(problem) for problem in found.sorted()] + [failure.happened for failure in failures]


BOUGHT = "{ at: 0m, event: order.placed }"


@pytest.mark.parametrize(
    ("given", "expect"),
    [
        (BOUGHT, "campaign: rescue, is: chosen"),
        ("{ at: 0m, policy: { everybody: { rescue: 3, gift+none: 3.50 } } }", "triggers: [gift]"),
        (
            "{ at: 0m, policy: { everybody: { rescue: 3, gift+none: 3.50, gift+pct_10: 4 } } }",
            "campaign: gift, is: chosen, offer: pct_10",
        ),
        (
            "{ at: 0m, policy: { everybody: { rescue: -0.30 } } }",
            "campaign: rescue, is: not_sent, because: none_better, by: worth -0.30",
        ),
        (
            f"{BOUGHT}, {{ at: 0m, policy: {{ everybody: {{ rescue: 3 }}, buyers=yes: {{ rescue: -3 }} }} }}",
            "campaign: rescue, is: not_sent, because: none_better",
        ),
        ("{ at: 3d, policy: { everybody: { rescue: -3 } } }", "campaign: rescue, is: chosen"),
    ],
)
@pytest.mark.parametrize("method", ["expected_value", "{ compare: { priority: 50%, expected_value: 50% } }"])
def test_a_choice_by_value_is_tested_with_what_campaigns_are_worth(given: str, expect: str, method: str) -> None:
    """Chance is off: nothing is tried, nobody is in a control group, and nobody is chosen for by another method."""
    assert by_value(given, expect, method) == []


def test_what_was_sent_with_another_offer_was_sent() -> None:
    """The offers that lost do not make it unsent."""
    given = "{ at: 0m, policy: { everybody: { gift+none: 3.50, gift+pct_10: 4 } } }"

    assert by_value(given, "campaign: gift, is: not_sent") == ["gift is chosen"]


@pytest.mark.parametrize(
    ("policy", "problem"),
    [
        ("often", "E012 what campaigns are worth is written like policy: { everybody: { cart_rescue: 3.50, gift+pct"),
        ("{ everybody: 3 }", "E012 what campaigns are worth is written like policy: { everybody: { cart_rescue: 3.5"),
        ("{ everybody: { rescu: 3 } }", "E027 unknown campaign 'rescu', did you mean 'rescue'?"),
        ("{ everybody: { rescue+none: 3 } }", "E054 unknown offer 'none' of rescue: it has no offers"),
        ("{ everybody: { gift: 3 } }", "E054 unknown offer '' of gift: write one of gift+none, gift+pct_10"),
        ("{ everybody: { rescue: much } }", "E021 'much' is no amount of money, write it like 4.90 or -4.90"),
        (
            "{ heroes=yes: { rescue: 3 } }",
            "E044 'heroes=yes' are no customers who are alike: everybody or 'buyers=...', by what the policy says",
        ),
    ],
)
def test_what_is_wrong_in_a_policy_has_its_place(policy: str, problem: str) -> None:
    """And says what to do."""
    [found] = by_value(f"{{ at: 0m, policy: {policy} }}", "triggers: []")

    assert problem in found


def test_worth_has_no_effect_where_priority_decides() -> None:
    """Which a test that says it does not know."""
    found = by_value("{ at: 0m, policy: { everybody: { rescue: 3 } } }", "triggers: [rescue]", "priority")

    assert [problem.partition(": ")[2] for problem in found] == [
        "E051 what campaigns are worth has no effect under `method: priority`"
    ]


def test_an_unknown_step_is_named() -> None:
    """With what was probably meant."""
    definitions, _ = load({"x.yaml": SERIES})
    assert definitions is not None
    found = Problems()
    expect = "{ at: 1h, campaign: discovery, step: nuge, is: chosen }"

    parse_scenarios(f"tests:\n  - name: it\n    given: []\n    expect: [{expect}]\n", "x", definitions, found)

    assert [str(one) for one in found.found] == ["x:4:51: E057 unknown step 'nuge', did you mean 'nudge'?"]

"""Definitions load strictly: every problem has its place and its code, and what is right becomes values."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.arbitration.campaign import After, Campaign, Exclusion, Measure, Send, SharedCap
from orchestrator.arbitration.policy import Cap, Policy, QuietHours
from orchestrator.cli.lint import lint
from orchestrator.definitions.catalogue import CATALOGUE, EventType
from orchestrator.definitions.load import load
from orchestrator.events import DAY, HOUR, MINUTE, SECOND
from orchestrator.features import Feature
from orchestrator.measurement import FIRST_BOUGHT
from orchestrator.moments.rules import Absence, Around, Calendar, EventMatch, PickOne, Silence
from orchestrator.program import Definitions
from orchestrator.runtime.definitions_folder import load_folder
from orchestrator.runtime.errors import OperatorError

BAD = sorted((Path(__file__).parent / "bad").glob("*.yaml"))

CART = """
moments:
  - moment: abandoned_cart
    say: "Did not buy"
    key: cart_id
    starts_on: { event: cart.item_added }
    unless: { event: order.placed, within: 1h }
    lasts: 48h
"""

RESCUE = """
campaigns:
  - campaign: cart_rescue
    when: abandoned_cart
    send: { channel: email, template: cart_rescue }
    measure: { objective: margin, for: 3d }
    control: 10%
"""


def sound(*texts: str) -> Definitions:
    """Return the definitions of texts that have no problem but warnings."""
    definitions, problems = load({f"{place}.yaml": text for place, text in enumerate(texts)})
    assert definitions is not None, "\n".join(map(str, problems))
    return definitions


def feature(text: str, name: str = "it") -> Feature:
    """Return one feature."""
    return sound(f"features:\n  {name}: {text}\n").features[name]


class TestBadFiles:
    """One fault per file, with the exact problem in its first lines."""

    @pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
    def test_has_exactly_the_problems_it_names(self, path: Path) -> None:
        """Place, code and message are part of the interface."""
        text = path.read_text(encoding="utf-8")
        expected = re.findall(r"^# (\d+:\d+: [EW]\d\d\d .*)$", text, re.MULTILINE)

        definitions, problems = load({"x": text})

        assert [str(problem).removeprefix("x:") for problem in problems] == expected
        assert (definitions is None) == any(problem.severity == "error" for problem in problems)

    def test_are_many_and_of_every_code(self) -> None:
        """No code is without its example."""
        texts = [path.read_text(encoding="utf-8") for path in BAD]
        codes = {code for text in texts for code in re.findall(r"^# \d+:\d+: ([EW]\d\d\d) ", text, re.MULTILINE)}
        written = {
            code
            for path in Path("orchestrator/definitions").glob("*.py")
            for code in re.findall(r'"([EW]\d\d\d)"', path.read_text())
        }

        assert len(BAD) >= 50
        assert written - codes == {"E004"}  # a key that is a list: YAML itself allows it, see below


class TestProblems:
    """How problems are collected."""

    def test_all_files_are_read_and_problems_sorted_by_place(self) -> None:
        """Nobody corrects one error at a time."""
        texts = {"b.yaml": "features: { x: { cuont: order.placed } }", "a.yaml": "momentz: []\ncampaignz: []\n"}

        _, problems = load(texts)

        assert [str(problem).partition(" ")[0] for problem in problems] == [
            "a.yaml:1:1:",
            "a.yaml:2:1:",
            "b.yaml:1:18:",
        ]

    def test_a_name_across_files_is_taken_once(self) -> None:
        """The second file is told where the first definition stands."""
        _, problems = load({"a.yaml": "features:\n  x: { count: order.placed }\n", "b.yaml": "features: { x: {} }\n"})

        assert "b.yaml:1:13: E047 feature 'x' is already defined at a.yaml:2" in map(str, problems)

    def test_a_policy_section_stands_once(self) -> None:
        """Two policies would leave open which one counts."""
        _, problems = load(
            {"a.yaml": "program: { currency: USD }\n", "b.yaml": "policy: { program: { currency: EUR } }\n"}
        )

        assert [str(p) for p in problems] == ["b.yaml:1:11: E047 section 'program' is already defined at a.yaml:1"]

    def test_one_wrong_feature_is_told_once(self) -> None:
        """What depends on something wrong is not wrong itself."""
        text = "features: { x: { sum: order.placed.totl } }\nsegments: { s: { say: S, is: 'x > 3 and x < 30d' } }\n"

        _, problems = load({"a.yaml": text})

        assert [problem.code for problem in problems] == ["E041"]

    def test_a_key_that_is_a_list_is_refused(self) -> None:
        """YAML allows any node as a key."""
        _, problems = load({"a.yaml": "features: { [a]: { count: order.placed } }"})

        assert [problem.code for problem in problems] == ["E004"]

    def test_tests_beside_the_definitions_are_left_alone(self) -> None:
        """They are another kind of file."""
        assert load({"cart.test.yaml": "tests: []", "a.yaml": CART + RESCUE})[1] == []

    @settings(max_examples=150, deadline=None)
    @given(st.text(max_size=300))
    def test_any_text_gives_problems_never_an_exception(self, text: str) -> None:
        """Whatever is in a file, somebody can be told about it."""
        definitions, problems = load({"a.yaml": text})

        assert definitions is not None or problems

    @settings(max_examples=300, deadline=None)
    @given(st.data())
    def test_any_change_to_the_pack_gives_problems_or_definitions(self, data: st.DataObject) -> None:
        """A slip anywhere in a file that was right is told, or changes nothing that matters."""
        texts = {
            str(path): path.read_text(encoding="utf-8") for path in Path("deploy/definitions/retail").glob("*.yaml")
        }
        path = data.draw(st.sampled_from(sorted(texts)))
        text = texts[path]
        start = data.draw(st.integers(0, len(text) - 1))
        length = data.draw(st.integers(0, 12))
        piece = data.draw(
            st.text(max_size=4) | st.sampled_from(["{", "}", "[", "]", ":", "- ", "'", '"', "\n", "9" * 30, "null"])
        )
        texts[path] = text[:start] + piece + text[start + length :]

        definitions, problems = load(texts)

        assert (definitions is None) == any(problem.severity == "error" for problem in problems)


class TestFeatures:
    """Features as values."""

    def test_count(self) -> None:
        """Several events, a window, a key and a filter."""
        built = feature("{ count: [message.opened, message.clicked], over: 90d, key: channel, where: 'not machine' }")

        assert (built.kind, built.events, built.over, built.key, built.unit) == (
            "count", ("message.opened", "message.clicked"), 90 * DAY, "channel", "number",
        )  # fmt: skip
        assert built.where is not None

    def test_sum_has_the_unit_of_its_property(self) -> None:
        """Money stays money."""
        built = feature("{ sum: order.placed.total, over: 365d }")

        assert built == Feature("it", "sum", ("order.placed",), field="total", over=365 * DAY, unit="money")

    def test_latest(self) -> None:
        """One value per cart, of the last ten: every visit has another."""
        built = feature("{ latest: cart.item_added.cart_total, key: cart_id }")

        assert built == Feature(
            "it", "latest", ("cart.item_added",), field="cart_total", key="cart_id", unit="money", max_keys=10
        )

    @pytest.mark.parametrize("kind", ["first_time", "last_time"])
    def test_times(self, kind: str) -> None:
        """Instants."""
        assert feature(f"{{ {kind}: order.placed }}") == Feature("it", kind, ("order.placed",), unit="instant")

    def test_age_of_comes_with_a_hidden_feature(self) -> None:
        """The instant it counts from is a feature of its own."""
        features = sound("features: { tenure: { age_of: { first_time: order.placed } } }").features

        assert features == {
            "tenure.of": Feature("tenure.of", "first_time", ("order.placed",), unit="instant"),
            "tenure": Feature("tenure", "age_of", of="tenure.of", unit="duration"),
        }

    def test_median_gap(self) -> None:
        """With what stands in until there are enough gaps."""
        built = feature("{ median_gap: order.placed, min_samples: 3, else: 60d }")

        assert built == Feature(
            "it", "median_gap", ("order.placed",), min_samples=3, otherwise=60 * DAY, unit="duration"
        )  # fmt: skip

    def test_next_order_date(self) -> None:
        """Defaults are those of the table."""
        built = feature("{ predict: next_order_date, key: product_family, from: order.placed }")

        assert built == Feature(
            "it", "next_order_date", ("order.placed",), key="product_family", min_samples=2, unit="instant"
        )  # fmt: skip


class TestMoments:
    """Moments as values."""

    def test_absence(self) -> None:
        """What was left out has its default."""
        moment = sound(CART, RESCUE).moments["abandoned_cart"]

        assert moment.shape == Absence(
            starts_on=EventMatch(("cart.item_added",)),
            restarts_on=None,
            unless=EventMatch(("order.placed",)),
            within=HOUR,
        )
        assert (moment.name, moment.say, moment.key, moment.lasts) == (
            "abandoned_cart", "Did not buy", "cart_id", 48 * HOUR,
        )  # fmt: skip

    def test_only_if_without_a_key_means_the_moments_own(self) -> None:
        """`cart_value >= 20` is about this cart, in the program's currency."""
        text = CART.replace("    lasts", "    only_if: 'cart_value >= 20'\n    lasts")
        features = "features: { cart_value: { latest: cart.item_added.cart_total, key: cart_id } }"

        condition = sound(features, text, RESCUE).moments["abandoned_cart"].only_if

        assert condition is not None
        assert [(read.name, read.key, read.unit) for read in condition.reads] == [("cart_value", None, "money")]
        assert "fixed=2000" in repr(condition.expression)

    def test_silence(self) -> None:
        """Thousandths of the rhythm, within bounds."""
        text = """
features: { order_gap: { median_gap: order.placed } }
moments:
  - moment: lapsed
    say: "Silent"
    absent: { event: order.placed, for: { times: 2.5, of: order_gap, min: 45d, max: 365d } }
    lasts: 30d
    again: { after_event: order.placed }
"""

        moment = sound(text).moments["lapsed"]

        assert moment.shape == Silence(EventMatch(("order.placed",)), 2500, "order_gap", 45 * DAY, 365 * DAY)

    def test_around(self) -> None:
        """`lasts: window` is no length of its own."""
        text = """
features: { due: { predict: next_order_date, key: product_family, from: order.placed } }
moments:
  - moment: running_out
    say: "Soon"
    key: product_family
    around: { date: due, from: -5d, to: +3d }
    unless: { event: order.placed, matching: product_family, within: window }
    pick_one: { by: expected_margin, at_most_every: 14d }
    lasts: window
"""

        moment = sound(text).moments["running_out"]

        assert moment.shape == Around("due", -5 * DAY, 3 * DAY, EventMatch(("order.placed",), "product_family"))
        assert (moment.lasts, moment.pick_one) == (None, PickOne("expected_margin", 14 * DAY))

    def test_calendar(self) -> None:
        """Days and minutes on the customer's clock."""
        text = """
moments:
  - moment: birthday
    say: "Birthday"
    calendar: { date: profile.birth_date, from: -6d, to: 0d, at: 09:30, ignore_dates: ["1970-01-01"] }
    lasts: 12h
    again: { every: 1y }
"""

        moment = sound(text).moments["birthday"]

        assert moment.shape == Calendar("birth_date", -6, 0, 570, "feb_28", frozenset({"1970-01-01"}))
        assert moment.lasts == 12 * HOUR


class TestCampaigns:
    """Campaigns as values."""

    def test_everything_written(self) -> None:
        """Money in minor units, shares in basis points."""
        text = """
campaigns:
  - campaign: cart_rescue
    when: [abandoned_cart]
    priority: 80
    class: marketing
    send: { channel: sms, template: rescue, with: [cart_lines], purpose: service }
    cost: { send: 0.06, offer: 5 }
    measure: { objective: margin, for: 3d, guard: [unsubscribe] }
    control: { start: 15%, floor: 2.5% }
"""

        assert sound(CART, text).campaigns["cart_rescue"] == Campaign(
            name="cart_rescue",
            when=("abandoned_cart",),
            send=Send("sms", "rescue", ("cart_lines",), "service"),
            measure=Measure("margin", 3 * DAY, ("unsubscribe",)),
            control_bp=1500,
            control_floor_bp=250,
            priority=80,
            cost=506,
            send_cost=6,
        )

    def test_what_a_campaign_says_about_others_and_about_offers(self) -> None:
        """Conditions are compiled with the moment's key, costs are amounts or shares."""
        text = RESCUE.replace("    control: 10%", """
    audience: [regulars, others]
    only_if: "carts['c1'] >= 2"
    after: { campaign: second_try, ignored: true, within: 30d }
    exclude: [ { after: second_try, for: 9d }, { after: cart_rescue, for: 2w } ]
    offer:
      choose: [pct_10, gift, none]
      only_if: { gift: "carts[moment.cart_id] >= 3" }
      never_if: { pct_10: "n > 1" }
    cost: { send: 0.01, offer: { gift: 4.90, pct_10: "12.5% of order" } }
    leads_to: [second_try]
    control: 10%
  - campaign: second_try
    when: abandoned_cart
    send: { channel: email, template: second_try, with: [recommended] }
    measure: { objective: new_category, for: 3d }
    control: 10%""")  # fmt: skip
        more = """
features: { n: { count: order.placed }, carts: { count: cart.item_added, key: cart_id } }
segments: { regulars: { say: R, is: "n > 2" }, others: { say: O, is: "n == 0" } }
"""
        definitions = sound(CART, more, text)
        rescue = definitions.campaigns["cart_rescue"]

        assert rescue.only_if is not None
        assert rescue.only_if.text == "(in_segment('regulars') or in_segment('others')) and (carts['c1'] >= 2)"
        assert rescue.after == After("second_try", "ignored", 30 * DAY)
        assert rescue.exclusions == (Exclusion("second_try", 9 * DAY), Exclusion("cart_rescue", 14 * DAY))
        assert rescue.leads_to == ("second_try",)
        assert rescue.offer is not None
        assert (rescue.offer.choices, rescue.offer.costs) == (
            ("pct_10", "gift", "none"), {"gift": (490, 0), "pct_10": (0, 1_250)},
        )  # fmt: skip
        assert [*rescue.offer.only_if, *rescue.offer.never_if] == ["gift", "pct_10"]
        assert [rescue.cost_with(offer) for offer in ("gift", "pct_10", "none")] == [(491, 0), (1, 1_250), (1, 0)]
        assert FIRST_BOUGHT in definitions.features

    def test_a_cap_over_all_customers(self) -> None:
        """Per product, so the moment must be about one."""
        capped = RESCUE.replace("control: 10%", "control: 10%\n    cap: { total: 200, per: sku, over: 1h }")
        definitions = sound(CART.replace("key: cart_id", "key: sku"), capped)

        assert definitions.campaigns["cart_rescue"].cap == SharedCap(200, HOUR)

    def test_a_plain_control_stays_as_it_is(self) -> None:
        """Without a floor it does not shrink."""
        campaign = sound(CART, RESCUE).campaigns["cart_rescue"]

        assert (campaign.control_bp, campaign.control_floor_bp, campaign.priority, campaign.cost) == (1000, 1000, 50, 0)


class TestPolicy:
    """The policy as a value."""

    def test_nothing_written_is_the_default(self) -> None:
        """The table of fields and `Policy` agree."""
        assert sound(CART, RESCUE).policy == Policy()

    def test_everything_written(self) -> None:
        """As in the sketch."""
        text = """
policy:
  program: { currency: EUR, metric: margin, assumed_margin: 25%, amend_for: 30d }
  one_at_a_time: { holds_until: measure_ends, exempt: [transactional], interrupt: never, rest: 2d }
  choose: { method: priority, collect_for: 10m }
  holdout: { share: 5%, rotate: monthly }
  contact:
    consent: required
    caps: [ { max: 1, per: 24h }, { max: 2, per: 30d, channel: sms } ]
    quiet_hours: { from: 21:00, to: "09:00", clock: customer }
    no_time_zone: { else: "Europe/Madrid" }
    unknown: do_not_send
  time:
    disorder: { clickstream: 30s }
    accept_late: { clickstream: 10m }
    never_act_on_moments_older_than: 12h
"""

        assert sound(text).policy == Policy(
            currency="EUR",
            assumed_margin_bp=2500,
            amend_for=30 * DAY,
            rest=2 * DAY,
            collect_for=10 * MINUTE,
            holdout_bp=500,
            holdout_rotate="monthly",
            caps=(Cap(1, DAY), Cap(2, 30 * DAY, "sms")),
            quiet_hours=QuietHours(1260, 540),
            zone_fallback="Europe/Madrid",
            use_country_zone=False,
            disorder={"clickstream": 30 * SECOND},
            accept_late={"clickstream": 10 * MINUTE},
            never_act_older_than=12 * HOUR,
        )

    def test_everything_written_about_choice(self) -> None:
        """Also how customers are told apart, which may be by segments."""
        text = """
features:
  lifecycle: { stage: [new, active, hero, at_risk, lapsed], from: order.placed }
  orders: { count: order.placed }
segments:
  heroes: { say: "Buy often", is: "orders >= 6" }
choose:
  method: expected_value
  by: [lifecycle, heroes]
  split_on: orders
  horizon: 6m
  include_follow_ons: { depth: 2, discount: 0.8 }
  none_is_an_option: false
  look_ahead: false
  explore: { start: 8%, floor: 2% }
  collect_for: 1m
  unsubscribe_costs: 7.50
  half_life: 90d
one_at_a_time: { interrupt: { when_value_exceeds: 2.5x } }
"""

        assert sound(text).policy == Policy(
            method="expected_value",
            by=("lifecycle", "heroes"),
            split_on=("orders",),
            horizon=365 * DAY // 2,
            follow_on_depth=2,
            follow_on_discount=0.8,
            none_is_an_option=False,
            look_ahead=False,
            explore_start_bp=800,
            explore_floor_bp=200,
            collect_for=MINUTE,
            unsubscribe_cost=750,
            half_life=90 * DAY,
            interrupt_above=2.5,
        )

    def test_methods_are_compared_on_shares_of_the_customers(self) -> None:
        """In the order in which customers are dealt out."""
        policy = sound("choose: { method: { compare: { expected_value: 80%, priority: 20% } } }").policy

        assert (policy.method, list(policy.compare.items())) == (
            "compare",
            [("priority", 2_000), ("expected_value", 8_000)],
        )


class TestVersion:
    """A hash of what is said."""

    def test_files_order_and_formatting_do_not_matter(self) -> None:
        """The same definitions are the same version, however they are spread over files."""
        one = load({"a.yaml": CART + RESCUE})[0]
        two = load({"z.yaml": "# a comment\n" + CART.replace('"Did not buy"', "'Did not buy'"), "b.yaml": RESCUE})[0]

        assert one is not None and two is not None
        assert one.version == two.version
        assert re.fullmatch("[0-9a-f]{12}", one.version)

    def test_any_value_matters(self) -> None:
        """A longer wait is another version."""
        assert sound(CART, RESCUE).version != sound(CART.replace("48h", "47h"), RESCUE).version


class TestCatalogue:
    """What events are known."""

    def test_agrees_with_the_schemas(self) -> None:
        """Every property is a field of the event's schema, of a type that fits."""
        schemas = {
            "clickstream": "clickstream_event",
            "purchases": "purchase_event",
            "email-engagement": "email_engagement_event",
        }
        fitting = {"text": "string", "number": "int", "money": "long", "truth": "boolean", "lines": "array"}
        for event in CATALOGUE.events.values():
            schema = json.loads(Path(f"schemas/{schemas[event.topic]}.avsc").read_text(encoding="utf-8"))
            fields: Mapping[str, str] = {field["name"]: json.dumps(field["type"]) for field in schema["fields"]}
            for name, kind in event.properties.items():
                assert f'"{fitting[kind]}"' in fields[name], (event.name, name)

    def test_can_be_extended(self) -> None:
        """Further inputs are known to lint once they are declared."""
        catalogue = CATALOGUE.extended([EventType("store.visited", "stores", {"store_id": "text"})])

        definitions, problems = load({"a.yaml": "features: { x: { count: store.visited, key: store_id } }"}, catalogue)

        assert definitions is not None
        assert [problem.code for problem in problems] == ["W002"]
        assert catalogue.topic_by_event["store.visited"] == "stores"


class TestLint:
    """The command and the folder."""

    def test_prints_problems_and_exits_1(self, tmp_path: Path) -> None:
        """Errors are findings."""
        (tmp_path / "a.yaml").write_text("momentz: []\n")

        result = CliRunner().invoke(lint, [str(tmp_path)])

        assert result.exit_code == 1
        assert result.stdout == f"{tmp_path}/a.yaml:1:1: E010 unknown section 'momentz', did you mean 'moments'?\n"

    def test_warnings_alone_are_no_failure(self, tmp_path: Path) -> None:
        """They are printed all the same."""
        (tmp_path / "a.yaml").write_text("features: { x: { count: order.placed } }\n")

        result = CliRunner().invoke(lint, [str(tmp_path)])

        assert result.exit_code == 0
        assert "W002" in result.stdout

    def test_prints_json(self, tmp_path: Path) -> None:
        """For programs: place, code, severity and message apart."""
        (tmp_path / "a.yaml").write_text("momentz: []\n")

        result = CliRunner().invoke(lint, [str(tmp_path), "--json"])

        assert json.loads(result.stdout) == {
            "version": None,
            "problems": [
                {
                    "path": f"{tmp_path}/a.yaml",
                    "line": 1,
                    "column": 1,
                    "code": "E010",
                    "severity": "error",
                    "message": "unknown section 'momentz', did you mean 'moments'?",
                }
            ],
            "state": None,
        }

    def test_a_folder_that_is_not_there_is_usage(self, tmp_path: Path) -> None:
        """Exit code 2."""
        assert CliRunner().invoke(lint, [str(tmp_path / "nowhere")]).exit_code == 2

    def test_bytes_that_are_no_text_are_a_problem(self, tmp_path: Path) -> None:
        """Nobody sees a traceback for a file saved by another program."""
        (tmp_path / "a.yaml").write_bytes(b"say: \xff\xfe\n")

        result = CliRunner().invoke(lint, [str(tmp_path)])

        assert result.exit_code == 1
        assert "E001" in result.stdout

    def test_load_folder_raises_with_all_errors(self, tmp_path: Path) -> None:
        """The worker refuses to start, and says why."""
        (tmp_path / "a.yaml").write_text("momentz: []\ncampaignz: []\n")

        with pytest.raises(OperatorError) as caught:
            load_folder(tmp_path)

        assert caught.value.exit_code == 1
        assert len(caught.value.details) == 2

    def test_load_folder_refuses_an_empty_folder(self, tmp_path: Path) -> None:
        """A mount that failed is not a program without campaigns."""
        with pytest.raises(OperatorError) as caught:
            load_folder(tmp_path)

        assert caught.value.exit_code == 2

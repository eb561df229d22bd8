"""A split as a patch: it adds a handful of lines, keeps all others as they were, lints, and its tests still run."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import test as beside
from orchestrator.definitions.amend import unified_diff
from orchestrator.definitions.catalogue import CATALOGUE
from orchestrator.definitions.lineage import Lineage
from orchestrator.definitions.load import load
from orchestrator.definitions.persona_patch import Proposal, propose
from orchestrator.events import DAY
from orchestrator.learning.cuts import Cut
from orchestrator.learning.intervals import Interval
from orchestrator.learning.personas import EXTREMELY, NOT, SOMEWHAT, Found, Limits, Persona, Split
from orchestrator.runtime.definitions_folder import read_directory

RETAIL = Path("deploy/definitions/retail")
PLUS = Path("deploy/definitions/retail_plus")
UNTIL = 1_767_225_600_000  # 2026-01-01

RARELY = Cut("order_gap", ">=", 60 * DAY, "duration")
OFTEN = RARELY.others
LOYAL = Cut("orders_lifetime", ">=", 3.0)

SMALL = {
    "pack/features.yaml": """\
features:
  order_gap: { median_gap: order.placed, min_samples: 3, else: 60d }
  orders_lifetime: { count: order.placed }
""",
    "pack/moments.yaml": """\
moments:
  - moment: abandoned_cart
    say: "Did not buy"
    starts_on: { event: cart.item_added }
    unless: { event: order.placed, within: 1h }
    lasts: 48h
""",
}

CAMPAIGN = """\
campaigns:
  - campaign: cart_rescue
    when: abandoned_cart
    send: { channel: email, template: cart_rescue }
    measure: { objective: margin, for: 3d }
    control: 10%
"""

POLICY = (RETAIL / "policy.yaml").read_text()


def part(*path: Cut, worth: int, around: int = 50, label: str = NOT, parts: tuple[Persona, ...] = ()) -> Persona:
    """Return customers with whom a campaign is worth so much, and the two parts they have."""
    interval = Interval(worth, worth - around, worth + around)
    split = Split(parts[0].path[-1], Interval(300, 100, 500), 1e9, True) if parts else None
    return Persona(path, 4_120, 3_700, 420, interval, label, split, parts)


def halves(**of_the_others: Any) -> Persona:
    """Return a campaign that works extremely well with those who order rarely, and not with the others."""
    others = {"worth": 5, "around": 45} | of_the_others
    return part(
        worth=150,
        label=SOMEWHAT,
        parts=(part(RARELY, worth=310, around=190, label=EXTREMELY), part(OFTEN, **others)),
    )


def proposed(texts: Mapping[str, str], **campaigns: Persona) -> Proposal:
    """Return the change that these campaigns ask for."""
    definitions, problems = load(texts)
    assert definitions is not None, "\n".join(map(str, problems))
    found = Found(campaigns, (), 900, Limits())
    return propose(texts, definitions, found, until=UNTIL, catalogue=CATALOGUE)


def small(campaigns: str = CAMPAIGN, **more: str) -> dict[str, str]:
    """Return a small pack."""
    files = {f"pack/{name}.yaml": text for name, text in more.items()}
    return {**SMALL, "pack/campaigns.yaml": campaigns, "pack/policy.yaml": POLICY, **files}


def without(text: str, *chunks: str) -> str:
    """Return a text without chunks that are each in it once."""
    for chunk in chunks:
        assert text.count(chunk) == 1, chunk
        text = text.replace(chunk, "")
    return text


def of_two_kinds(cut: Cut) -> Persona:
    """Return a campaign that works extremely well with those of a cut, and not with the others."""
    return part(worth=100, label=SOMEWHAT, parts=(part(cut, worth=300, label=EXTREMELY), part(cut.others, worth=0)))


def test_split_of_the_retail_pack() -> None:
    """The campaign keeps those with whom it works; a sibling waits for a template for the others."""
    texts = read_directory(RETAIL)
    proposal = proposed(texts, cart_rescue=halves())
    campaigns, segments = (str(RETAIL / f"{name}.yaml") for name in ("campaigns", "segments"))

    assert not proposal.problems
    assert [path for path in texts if texts[path] != proposal.texts[path]] == [campaigns, segments]
    assert texts[campaigns] == without(
        proposal.texts[campaigns],
        "    audience: cart_rescue_extremely"
        "  # +3.10 [1.20, 5.00], n = 4,120; others: +0.05 [-0.40, 0.50], n = 4,120\n",
        """
  # With whom cart_rescue is not effective: it stops. Fill in the template of the campaign that they still need.
  - campaign: cart_rescue_others
    grew_from: cart_rescue
    audience: cart_rescue_others
    when: abandoned_cart
    priority: 80                                   # the highest wins when several are possible at once
    send: { channel: email, template: fill_in_cart_rescue_others, with: [cart_lines, recommended] }
    cost: { send: 0.01 }
    measure: { objective: margin, for: 3d, guard: [unsubscribe] }
    control: { start: 15%, floor: 5% }             # 15 % get nothing, so that the others can be compared with them
""",
    )
    assert texts[segments] == without(
        proposal.texts[segments],
        """
  # Sub-personas of cart_rescue in windows until 2026-01-01: margin per window beyond randomised control, its
  # always-valid 95 % interval, and the number of windows that measured it.
  #   order_gap >= 60d: +3.10 [1.20, 5.00], n = 4,120: extremely effective
  #   order_gap < 60d: +0.05 [-0.40, 0.50], n = 4,120: not effective
  cart_rescue_extremely:
    say: "cart_rescue is extremely effective with them"
    is: "order_gap >= 60d"

  cart_rescue_others:
    say: "cart_rescue is not effective with them"
    is: "order_gap < 60d"
""",
    )


@pytest.mark.parametrize("pack", [RETAIL, PLUS])
def test_every_campaign_of_a_pack_can_be_split(pack: Path) -> None:
    """Whatever fields it has, and with all of them split at once: no problem that was not there, and the tests run."""
    texts = {**read_directory(pack), str(pack / "visits.yaml"): "features:\n  visits: { count: site.visited }\n"}
    definitions, _ = load(texts)
    assert definitions is not None
    for name, campaign in definitions.campaigns.items():
        if campaign.exempt:
            continue
        proposal = proposed(texts, **{name: of_two_kinds(Cut("visits", ">=", 7.0))})
        after, _ = load(proposal.texts)

        assert not proposal.problems, name
        assert after is not None
        assert after.campaigns[f"{name}_others"].grew_from == name
        assert all(send.template.startswith("fill_in_") for send in after.campaigns[f"{name}_others"].sends)
        assert beside.tested(proposal.texts, after, CATALOGUE)[2] == []


def test_patch_is_what_git_applies(tmp_path: Path) -> None:
    """`git apply` makes of the files what was proposed, also where one has no line break at its end and one is new."""
    texts = small(CAMPAIGN.rstrip("\n"))
    proposal = proposed(texts, cart_rescue=halves())
    for path, text in texts.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    (tmp_path / "split.patch").write_text(unified_diff(texts, proposal.texts))
    subprocess.run(["git", "apply", "split.patch"], cwd=tmp_path, check=True)

    assert {path: (tmp_path / path).read_text() for path in proposal.texts} == proposal.texts
    assert "pack/sub_personas.yaml" in proposal.texts


def test_somewhat_effective_goes_on_with_the_same_template() -> None:
    """Where it works somewhat, those customers keep it until there is a better one."""
    proposal = proposed(small(), cart_rescue=halves(worth=100, label=SOMEWHAT))
    after, problems = load(proposal.texts)

    assert after is not None, problems
    assert after.campaigns["cart_rescue_somewhat"].send == after.campaigns["cart_rescue"].send
    assert not proposal.notes


def test_harm_is_stopped() -> None:
    """Where it loses money for sure it stops, and the comments say so."""
    proposal = proposed(small(), cart_rescue=halves(worth=-100))

    assert "cart_rescue does harm: it stops." in proposal.texts["pack/campaigns.yaml"]
    assert (
        "order_gap < 60d: -1.00 [-1.45, -0.55], n = 4,120: not effective, it does harm"
        in (proposal.texts["pack/sub_personas.yaml"])
    )


def test_parts_of_parts_are_one_segment_per_label() -> None:
    """Three parts, two of which are treated alike: their segment names both ways to be in it."""
    parts = part(OFTEN, LOYAL, worth=300, label=EXTREMELY), part(OFTEN, LOYAL.others, worth=0)
    inner = part(OFTEN, worth=80, label=SOMEWHAT, parts=parts)
    whole = part(worth=150, label=SOMEWHAT, parts=(part(RARELY, worth=310, label=EXTREMELY), inner))
    after, _ = load(proposed(small(), cart_rescue=whole).texts)

    assert after is not None
    assert after.segments["cart_rescue_extremely"].condition.text == (
        "order_gap >= 60d or (order_gap < 60d and orders_lifetime >= 3)"
    )
    assert after.segments["cart_rescue_others"].condition.text == "order_gap < 60d and orders_lifetime < 3"


def test_later_cut_on_the_same_feature_replaces_the_earlier() -> None:
    """`orders >= 3 and orders >= 8` reads as `orders >= 8`."""
    much = Cut("orders_lifetime", ">=", 8.0)
    parts = part(LOYAL, much, worth=400, label=EXTREMELY), part(LOYAL, much.others, worth=0)
    inner = part(LOYAL, worth=200, label=SOMEWHAT, parts=parts)
    whole = part(worth=150, label=SOMEWHAT, parts=(inner, part(LOYAL.others, worth=0)))
    after, _ = load(proposed(small(), cart_rescue=whole).texts)

    assert after is not None
    assert after.segments["cart_rescue_extremely"].condition.text == "orders_lifetime >= 8"


def test_audience_that_is_there_stays_the_frame() -> None:
    """A campaign that was for some segments goes on to be for those only."""
    segments = """
segments:
  loyal: { say: "Three orders", is: "orders_lifetime >= 3" }
  a: { say: "One order", is: "orders_lifetime == 1" }
"""
    texts = small(CAMPAIGN + "    audience: [loyal, a]   # not for everybody\n", segments=segments)
    after, problems = load(proposed(texts, cart_rescue=halves()).texts)

    assert after is not None, problems
    assert after.segments["cart_rescue_extremely"].condition.text == (
        "(in_segment('loyal') or in_segment('a')) and order_gap >= 60d"
    )
    assert after.campaigns["cart_rescue_others"].only_if is not None
    assert after.campaigns["cart_rescue_others"].only_if.text == "in_segment('cart_rescue_others')"


FLOW = """\
campaigns:
  - { campaign: cart_rescue, when: abandoned_cart, send: { channel: email, template: cart_rescue },  # in braces
      measure: { objective: margin, for: 3d }, control: 10% }
"""

ONE_LINE = (
    "campaigns: [{ campaign: cart_rescue, when: abandoned_cart, send: { channel: email, template: t },"
    " measure: { objective: margin, for: 3d }, control: 10% }]\n"
)

DASH_ALONE = """\
campaigns:
-
  when: abandoned_cart
  # why it is called so
  "campaign":   'cart_rescue'
  send:
    channel: email
    template: "cart_rescue"
  measure: { objective: margin, for: 3d }
  control: 10%
# the end
policy:
  program: { currency: EUR }
"""


@pytest.mark.parametrize("text", [FLOW, ONE_LINE, DASH_ALONE, CAMPAIGN.replace("\n", "\r\n"), "\ufeff" + CAMPAIGN])
def test_however_a_campaign_is_written(text: str) -> None:
    """In braces, on one line, with its dash alone, in quotes, with other line breaks: the split means the same."""
    policy = {} if "program" not in text else {"policy": POLICY.replace("program:", "# program:")}
    proposal = proposed(small(text, **policy), cart_rescue=halves())
    after, problems = load(proposal.texts)

    assert after is not None, problems
    assert not proposal.problems
    others = after.campaigns["cart_rescue_others"]
    assert (others.grew_from, others.send.template) == ("cart_rescue", "fill_in_cart_rescue_others")
    for name, segment in (("cart_rescue", "cart_rescue_extremely"), ("cart_rescue_others", "cart_rescue_others")):
        only_if = after.campaigns[name].only_if
        assert only_if is not None and only_if.text == f"in_segment('{segment}')"
    kept = [line for line in text.splitlines() if "cart_rescue" not in line and "campaigns: [" not in line]
    assert [line for line in kept if line not in proposal.texts["pack/campaigns.yaml"].splitlines()] == []


def test_line_breaks_stay_as_they_are() -> None:
    """A file with the line breaks of Windows has no others afterwards."""
    text = proposed(small(CAMPAIGN.replace("\n", "\r\n")), cart_rescue=halves()).texts["pack/campaigns.yaml"]

    assert text.count("\n") == text.count("\r\n")


def test_names_that_are_taken_get_a_number() -> None:
    """A second split never takes the name of what the first one made."""
    texts = proposed(small(), cart_rescue=halves()).texts
    proposal = proposed(texts, cart_rescue=of_two_kinds(LOYAL))
    after, problems = load(proposal.texts)

    assert after is not None, problems
    assert after.campaigns["cart_rescue_others_2"].grew_from == "cart_rescue"
    assert after.segments["cart_rescue_extremely_2"].condition.text == (
        "in_segment('cart_rescue_extremely') and orders_lifetime >= 3"
    )


def test_segment_that_is_there_is_used() -> None:
    """Two campaigns that work for the same customers share the segment."""
    proposal = proposed(read_directory(RETAIL), cart_rescue=halves(), birthday_offer=halves())
    after, _ = load(proposal.texts)

    assert not proposal.problems
    assert after is not None
    assert after.campaigns["birthday_offer"].only_if == after.campaigns["cart_rescue"].only_if


def test_what_a_reader_has_to_think_of_is_said() -> None:
    """The template to fill in, campaigns that name the one that is split, and a cap that is now there twice."""
    proposal = proposed(read_directory(RETAIL), reorder_reminder=halves(), gone=halves())

    assert proposal.notes == (
        "'gone' is not defined here any more, so it is left alone",
        "'reorder_reminder_others' waits for a template: fill it in, or leave the campaign out",
        "subscribe_and_save name 'reorder_reminder': say whether they mean reorder_reminder_others as well",
    )
    capped = proposed(read_directory(PLUS), last_units=of_two_kinds(Cut("orders_lifetime", ">=", 1.0)))
    assert "the cap of 'last_units' now holds for each of its siblings: divide it between them" in capped.notes


def test_parts_that_are_labelled_alike_change_nothing() -> None:
    """A campaign that works with both parts, more or less, stays as it is."""
    alike = part(worth=1, parts=(part(RARELY, worth=300, label=SOMEWHAT), part(OFTEN, worth=100, label=SOMEWHAT)))
    proposal = proposed(small(), cart_rescue=alike)

    assert not proposal.campaigns
    assert proposal.texts == small()


def test_lineage() -> None:
    """Who grew from whom over two iterations, also from a campaign that is gone."""
    texts = proposed(proposed(small(), cart_rescue=halves()).texts, cart_rescue_others=of_two_kinds(LOYAL)).texts
    later = {path: text.replace("grew_from: cart_rescue\n", "grew_from: first_try\n") for path, text in texts.items()}
    (before, _), (after, _) = load(texts), load(later)

    assert before is not None and after is not None
    assert list(Lineage.of(before).lines()) == [
        "cart_rescue: cart_rescue by email, only if in_segment('cart_rescue_extremely')",
        "└─ cart_rescue_others: fill_in_cart_rescue_others by email, "
        "only if in_segment('cart_rescue_others_extremely')",
        "   └─ cart_rescue_others_others: fill_in_cart_rescue_others_others by email, "
        "only if in_segment('cart_rescue_others_others')",
    ]
    assert next(Lineage.of(after).lines()) == "first_try (gone)"


def test_split_by_who_has_no_value_lints() -> None:
    """That a value is unknown is a condition like any other, and so is that it is known."""
    texts = read_directory(RETAIL)
    proposal = proposed(texts, cart_rescue=of_two_kinds(Cut("value_tier", "==", "", "text")))
    segments = proposal.texts[str(RETAIL / "segments.yaml")]

    assert not proposal.problems
    assert 'is: "value_tier is unknown"' in segments
    assert 'is: "value_tier is not unknown"' in segments

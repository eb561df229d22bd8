"""A world as a pack of definitions in YAML, as a marketer in that market would write it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.definitions.catalogue import CATALOGUE, Catalogue, EventType
from orchestrator.definitions.load import load
from orchestrator.events import DAY
from orchestrator.program import Definitions
from orchestrator.simulate.world import BIRTHDAY, Truth, World

BELONGS = "belongs.told"
"""The event that tells of a customer's segment; for the persona oracle alone it tells of the persona."""

FOLLOW_ON_WITHIN = 180
"""Days within which a campaign may come after another was responded to."""


def signal_of(campaign: str) -> str:
    """Return the event with which a campaign's moment begins."""
    return f"wish.{campaign}"


def catalogue_of(world: World) -> Catalogue:
    """Return the events that a world's definitions may name."""
    wishes = [EventType(signal_of(name), "clickstream", {}) for name in world.campaigns if name != BIRTHDAY]
    return CATALOGUE.extended([*wishes, EventType(BELONGS, "clickstream", {"group": "text"})])


def definitions_of(
    world: World, *, method: str = "expected_value", listed: Sequence[str] | None = None, measured: bool = True
) -> Definitions:
    """Return a world's definitions; `listed` are the campaigns to run, from the highest priority down.

    Without `measured` there are no control groups: who knows the truth has nothing to find out.
    """
    definitions, problems = load(texts_of(world, method=method, listed=listed), catalogue_of(world))
    assert definitions is not None, [str(problem) for problem in problems]
    if measured:
        return definitions
    certain = {
        name: replace(campaign, control_bp=0, control_floor_bp=0) for name, campaign in definitions.campaigns.items()
    }
    return replace(definitions, campaigns=certain)


def texts_of(world: World, *, method: str = "expected_value", listed: Sequence[str] | None = None) -> dict[str, str]:
    """Return the files of a world's pack."""
    by_priority = sorted(world.campaigns.values(), key=lambda truth: -truth.priority)
    names = [truth.name for truth in by_priority] if listed is None else list(listed)
    priorities = {name: 90 - 5 * place for place, name in enumerate(names)}
    campaigns = [world.campaigns[name] for name in sorted(names)]
    return {
        "features.yaml": f"features:\n  group: {{ latest: {BELONGS}.group }}\n",
        "moments.yaml": "moments:\n" + "".join(map(_moment, campaigns)),
        "campaigns.yaml": "campaigns:\n" + "".join(
            _campaign(truth, priorities[truth.name], names) for truth in campaigns
        ),
        "policy.yaml": f"""\
program: {{ currency: USD, metric: margin, assumed_margin: 30%, amend_for: 1d }}
one_at_a_time: {{ holds_until: measure_ends, interrupt: never, rest: 0d }}
choose:
  method: {method}
  by: [group]
  unsubscribe_costs: {world.unsubscribe_costs / 100:.2f}
  explore: {{ start: 5%, floor: 1% }}
contact:
  consent: required
  no_time_zone: {{ use: country_default, else: "UTC" }}
  unknown: do_not_send
time:
  disorder: {{ clickstream: 0s, purchases: 0s, email-engagement: 0s }}
  accept_late: {{ clickstream: 0s, purchases: 0s, email-engagement: 0s }}
  never_act_on_moments_older_than: 24h
""",
    }  # fmt: skip


def _moment(truth: Truth) -> str:
    if truth.name == BIRTHDAY:
        return (
            f"  - moment: {truth.name}\n    say: \"The week that ends on the birthday\"\n"
            '    calendar: { date: profile.birth_date, from: -6d, to: 0d, at: "09:00" }\n    lasts: window\n'
        )  # fmt: skip
    return (
        f"  - moment: {truth.name}\n    say: \"Shows a wish that {truth.name} answers\"\n"
        f"    count: {{ event: {signal_of(truth.name)}, over: 1d, at_least: 1 }}\n    lasts: {truth.lasts // DAY}d\n"
    )  # fmt: skip


def _campaign(truth: Truth, priority: int, names: Sequence[str]) -> str:
    text = (
        f"  - campaign: {truth.name}\n    when: {truth.name}\n    priority: {priority}\n"
        f"    send: {{ channel: email, template: {truth.name} }}\n    cost: {{ send: {truth.cost / 100:.2f} }}\n"
        f"    measure: {{ objective: margin, for: {truth.window // DAY}d }}\n"
        "    control: { start: 20%, floor: 3% }\n"
    )
    if truth.after in names:
        text += f"    after: {{ campaign: {truth.after}, responded: true, within: {FOLLOW_ON_WITHIN}d }}\n"
    if truth.leads_to in names:
        text += f"    leads_to: [ {truth.leads_to} ]\n"
    return text

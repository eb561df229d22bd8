"""What one decision costs: `python -m bench.decision [--customers N] [--rounds N] [--write]`.

Customers with a year behind them have left a cart that ten campaigns answer, with consent, caps, quiet hours,
conditions and control groups, and a birthday and predicted orders to come. Prints the CPU-microseconds of the decision,
by priority and by value, of the engine alone and with the state from and to bytes and all records encoded.
"""

from __future__ import annotations

import argparse
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from time import process_time

from bench.harness.machine import ROOT, about, machine, table, write
from orchestrator.customer import Customer, customer_from_bytes
from orchestrator.engine import advance
from orchestrator.events import DAY, HOUR, PROFILE, Event
from orchestrator.program import Definitions, Program
from orchestrator.records import CampaignOutcome, Decision, Effects, Trigger
from orchestrator.reference import Product, Reference
from orchestrator.runtime.avro import Codec
from orchestrator.runtime.definitions_folder import load_folder
from orchestrator.runtime.schema_registry import FileRegistry
from orchestrator.runtime.topics import load
from orchestrator.simulation import Simulation
from orchestrator.valuation import (
    EVERYBODY,
    PROVEN,
    START,
    ArmValue,
    LeafValue,
    PolicySnapshot,
    arm_of,
    records_of,
    snapshot_of,
)

CANDIDATES = 10
DRAWS = 32
GOAL = 400
BEGIN = 1_700_000_000_000 // DAY * DAY
LEFT = BEGIN + 365 * DAY + 14 * HOUR
"""When everybody leaves a cart, in the afternoon; the decision is an hour and the stragglers' time later."""

DECIDED = LEFT + 2 * HOUR
FAMILIES = ("hair", "soap", "coffee", "tea")


@dataclass(frozen=True, slots=True)
class Way:
    """One way to choose: how the definitions say it, and whether anything was learned."""

    name: str
    method: str
    learned: bool = False
    look_ahead: bool = True


WAYS = (
    Way("priority, nobody learns", "plain"),
    Way("priority, and told to who learns", "priority"),
    Way("by value, nothing known yet", "expected_value"),
    Way("by value, without look-ahead", "expected_value", learned=True, look_ahead=False),
    Way("by value", "expected_value", learned=True),
)


def program_of(definitions: Definitions, way: Way) -> Program:
    """Return the definitions as they choose one way."""
    policy = replace(definitions.policy, look_ahead=way.look_ahead)
    if way.method == "plain":
        policy = replace(policy, method="priority", by=(), split_on=())
    else:
        policy = replace(policy, method=way.method)
    return Program(replace(definitions, policy=policy))


def learned(definitions: Definitions) -> PolicySnapshot:
    """Return a snapshot of all arms in many leaves, through its records, as an engine has it."""
    chance = Random(1)
    arms = [arm_of(one.name, "", one.send.channel) for one in definitions.campaigns.values()]

    def leaf() -> LeafValue:
        values = {
            arm: ArmValue(
                [chance.gauss(150, 200) for _ in range(DRAWS)], 0.02 + place / 100, 0.05, control_bp=700, state=PROVEN
            )
            for place, arm in enumerate(arms)
        }
        return LeafValue(values, {START: [chance.gauss(400, 40) for _ in range(DRAWS)]})

    by = [
        f"value_tier={tier};lifecycle={stage};heroes={hero}"
        for tier in ("high", "mid", "low")
        for stage in ("new", "active", "hero", "at_risk", "lapsed")
        for hero in ("yes", "no")
    ]
    leaves = {name: leaf() for name in (EVERYBODY, *by)}
    snapshot = snapshot_of(records_of(PolicySnapshot(BEGIN, BEGIN, "v", DRAWS, 200, leaves)).values())
    assert snapshot is not None
    return snapshot


def states(program: Program, reference: Reference, customers: int) -> dict[str, bytes]:
    """Return customers as they are before the decision, by id, as bytes."""
    chance, shop = Random(2), Simulation(program, reference)
    for number in range(customers):
        name = f"customer-{number:06}"
        born = f"19{chance.randrange(50, 99)}-{chance.randrange(1, 13):02}-{chance.randrange(1, 29):02}"
        agreed = [{"channel": "email", "purpose": "marketing", "granted": True, "at": BEGIN}]
        shop.feed(
            Event(PROFILE, name, BEGIN, data={"consents": agreed, "birth_date": born, "time_zone": "Europe/Madrid"})
        )
        at = BEGIN
        for order in range(chance.randrange(2, 12)):
            at += chance.randrange(5 * DAY, 40 * DAY)
            lines = [
                {"sku": family, "quantity": 1, "price": 1_000, "margin": 300} for family in chance.sample(FAMILIES, 2)
            ]
            if at < LEFT - DAY:
                data = {"order_id": f"{name}-{order}", "lines": lines, "total": 2_000}
                shop.feed(Event("order.placed", name, at, f"{name}-{order}", 0, order, data))
        cart = {"cart_id": f"cart-{number}", "cart_total": 5_000, "sku": "hair", "quantity": 1, "unit_price": 5_000}
        shop.feed(Event("cart.item_added", name, LEFT, f"{name}-cart", 1, number, cart))
    shop.advance(LEFT)
    return {name: customer.to_bytes() for name, customer in sorted(shop.customers.items())}


def decide(program: Program, reference: Reference, name: str, customer: Customer) -> Effects:
    """Return what comes of a customer's next two hours."""
    return advance(program, reference, name, customer, [], DECIDED, clock_before=LEFT)


def spent(run: Callable[[], None], rounds: int, each: int) -> float:
    """Return the CPU-microseconds of one of so many, the median of the rounds."""
    found = []
    for _ in range(rounds):
        began = process_time()
        run()
        found.append((process_time() - began) / each * 1e6)
    return statistics.median(found)


def measure(customers: int, rounds: int) -> list[tuple[Way, float, float, Counter[str]]]:
    """Return per way the cost of the engine and of all, per decision, and what was decided."""
    definitions = load_folder(ROOT / "bench" / "definitions" / "ten_candidates")
    snapshot = learned(definitions)
    products = [Product(family, family=family, typical_days_of_supply=30) for family in FAMILIES]
    encode = encoders()
    found = []
    for way in WAYS:
        program, reference = program_of(definitions, way), Reference(products)
        before = states(program, reference, customers)
        if way.learned:
            reference.put_policy(snapshot)
        effects = [decide(program, reference, name, customer_from_bytes(data)) for name, data in before.items()]
        decisions = [one for each in effects for one in each.decisions if len(one.candidates) >= CANDIDATES]
        made = Counter(decision.reason for decision in decisions)

        def whole(
            program: Program = program, reference: Reference = reference, before: dict[str, bytes] = before
        ) -> None:
            for name, data in before.items():
                customer = customer_from_bytes(data)
                encode(decide(program, reference, name, customer))
                customer.to_bytes()

        engine = engine_alone(program, reference, before, rounds, len(decisions))
        found.append((way, engine, spent(whole, rounds, len(decisions)), made))
    return found


def engine_alone(program: Program, reference: Reference, before: dict[str, bytes], rounds: int, each: int) -> float:
    """Return the cost of the decisions without decoding any state, the median of the rounds."""
    found = []
    for _ in range(rounds):
        known = {name: customer_from_bytes(data) for name, data in before.items()}

        def run(known: dict[str, Customer] = known) -> None:
            for name, customer in known.items():
                decide(program, reference, name, customer)

        found.append(spent(run, 1, each))
    return statistics.median(found)


def encoders() -> Callable[[Effects], None]:
    """Return a function that encodes all that comes of a customer."""
    codec = Codec(FileRegistry(ROOT / "schemas"))
    topics = load(ROOT / "topics.yaml", ROOT / "schemas")
    decision = codec.value_encoder(topics.decisions, Decision)
    trigger = codec.value_encoder(topics.triggers, Trigger)
    outcome = codec.value_encoder(topics.outcomes, CampaignOutcome)

    def encode(effects: Effects) -> None:
        for records, write_one in (
            (effects.decisions, decision),
            (effects.triggers, trigger),
            (effects.outcomes, outcome),
        ):
            for one in records:
                write_one(one)

    return encode


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and keep the result; fail where the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--customers", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="keep the result under bench/results")
    given = parser.parse_args(arguments)

    found = measure(given.customers, given.rounds)
    rows = [
        (
            way.name,
            f"{engine:.0f}",
            f"{whole:.0f}",
            ", ".join(f"{count:,} {reason}" for reason, count in made.most_common(3)),
        )
        for way, engine, whole, made in found
    ]
    header = ("how is chosen", "engine, CPU-µs", "with bytes and records, CPU-µs", "decisions")
    said = table(header, rows)
    print(said)
    whole = found[-1][2]
    print(f"by value, all in all: {whole:.0f} CPU-µs per decision among {CANDIDATES} candidates, goal at most {GOAL}")
    if given.write:
        facts = machine(runs=f"{given.customers:,} customers, the median of {given.rounds} rounds, {DRAWS} worlds")
        title = "# What a decision costs\n\n`python -m bench.decision --write`: "
        title += f"{CANDIDATES} candidates, with all rules of contact; goal for choosing by value: {GOAL} CPU-µs."
        kept = {way.name: {"engine": round(engine), "all": round(all_)} for way, engine, all_, _ in found}
        write("decision", {"about": facts, "found": kept}, f"{title}\n\n{about(facts)}\n{said}")
    if whole > GOAL:
        raise SystemExit("missed")


if __name__ == "__main__":
    main()

"""Prints what the pure engine costs on the demo's world: `python -m bench.engine [--households N] [--round-trip]`."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path
from statistics import median

from orchestrator.customer import Customer
from orchestrator.definitions.catalogue import CATALOGUE
from orchestrator.demo.injected import read
from orchestrator.demo.world import World
from orchestrator.engine import advance
from orchestrator.events import HOUR, Event
from orchestrator.program import Program
from orchestrator.reference import Reference
from orchestrator.runtime.definitions_folder import load_folder
from orchestrator.simulation import Simulation

DEFINITIONS = Path(__file__).parents[1] / "deploy" / "definitions" / "retail"


def main() -> None:
    """Replay a world with a barrier every hour, and time the engine alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--households", type=int, default=200)
    parser.add_argument("--round-trip", action="store_true", help="every customer through bytes after every step")
    options = parser.parse_args()
    program = Program(load_folder(DEFINITIONS), CATALOGUE.topic_by_event)
    reference, arrivals = read(World(options.seed, options.households))
    relevant = [(at, event) for at, event in arrivals if event.name in program.relevant]

    simulated = Simulation(program, reference, round_trip=options.round_trip)
    spent = 0.0
    barrier = relevant[0][0] // HOUR * HOUR
    for at, event in relevant:
        while at > barrier:
            barrier += HOUR
            started = time.process_time()
            simulated.advance(barrier)
            spent += time.process_time() - started
        simulated.feed(event)
    started = time.process_time()
    simulated.advance(barrier + HOUR)
    spent += time.process_time() - started

    kinds = Counter(decision.reason for decision in simulated.decisions)
    sizes = sorted(len(customer.to_bytes()) for customer in simulated.customers.values())
    print(f"{len(arrivals):,} events, {len(relevant):,} of them relevant, {len(simulated.customers):,} customers")
    print(f"{spent / len(relevant) * 1e6:.1f} CPU-µs per relevant event, {spent / len(arrivals) * 1e6:.1f} per event")
    made = len(simulated.decisions)
    print(f"{made:,} decisions, {spent / made * 1e6:.0f} CPU-µs each, all included")
    print(f"{len(simulated.triggers):,} triggers; decisions by reason: {dict(kinds.most_common())}")
    print(f"state: median {median(sizes):,.0f} bytes, largest {sizes[-1]:,}")
    for name in ("cart.item_added", "order.placed", "message.opened"):
        cost = one_by_one(program, reference, [event for _, event in relevant if event.name == name])
        print(f"{name:18} {cost:5.1f} CPU-µs, one a step, the customer in memory")


def one_by_one(program: Program, reference: Reference, events: list[Event]) -> float:
    """Return the CPU-µs of one event of a kind, in steps of their own, without the steps that decide something."""
    customers: dict[str, Customer] = {}
    costs = []
    clock = time.perf_counter
    for event in events[:20_000]:
        customer = customers.setdefault(event.customer, Customer())
        started = clock()
        advance(program, reference, event.customer, customer, [event], event.time, clock_before=event.time - 1_000)
        costs.append(clock() - started)
    return median(costs) * 1e6


if __name__ == "__main__":
    main()

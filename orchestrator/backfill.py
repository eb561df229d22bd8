"""Giving customers facts of before their features were defined, silently: nothing opens because of what was long ago.

History is folded as in a rebuild (`recall`), and of what comes of it only the facts asked for are kept. Whoever is in a
segment by them has not entered it now; everything else of the state stays as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from orchestrator.customer import Customer
from orchestrator.moments.lifecycle import schedule
from orchestrator.moments.watch import hush, standing
from orchestrator.program import Program
from orchestrator.reference import Reference
from orchestrator.sharing import refile
from orchestrator.step import Step


def fact_of(program: Program, feature: str) -> str:
    """Return the name of the fact from which a feature is read; several features may share one."""
    found = program.features[feature]
    while found.of is not None:
        found = program.features[found.of]
    return found.name


def unknown_features(program: Program, facts_there: Collection[str]) -> list[str]:
    """Return the features that nobody has, given the names of all facts that are stored, however they were filed."""
    there = {program.filed.facts_from.get(fact, fact) for fact in facts_there}
    return sorted(name for name in program.definitions.features if fact_of(program, name) not in there)


def give_facts(
    program: Program,
    reference: Reference,
    customer_id: str,
    customer: Customer,
    history: Customer,
    facts: Iterable[str],
    clock: int,
) -> bool:
    """Give a customer at an instant the facts that a history left; return whether that changed anything.

    What the history knows nothing of is left alone: perhaps it does not reach back far enough.
    """
    refile(customer, program.filed)
    there, found = customer.raw_facts, history.raw_facts
    new = sorted(fact for fact in facts if fact in found and found[fact] != there.get(fact))
    if not new:
        return False
    at = max(clock, customer.now)
    step = Step(program, reference, customer_id, customer, clock, clock=clock)
    before = [standing(step, moment, at) for moment in program.watched]
    for fact in new:
        customer.set_fact(fact, history.fact(fact))
    for moment, (held, look) in zip(program.watched, before, strict=True):
        holds, next_look = standing(step, moment, at)
        if (holds, next_look) != (held, look):
            if holds != held:
                hush(step, moment, holds - held, at)
            schedule(step, moment, at)
    return True

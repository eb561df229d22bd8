"""Records to the shapes of several events: counts and sums, sequences, either order."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.conditions import Condition
from orchestrator.definitions.catalogue import Catalogue
from orchestrator.definitions.expressions import Scope, compile_condition
from orchestrator.definitions.nodes import Problems, Scalar
from orchestrator.definitions.records import Property, Record, Word
from orchestrator.definitions.values import PARSERS
from orchestrator.features import Feature
from orchestrator.moments.rules import EventMatch, ProductState, Sequence, Stage, Total

FIRSTS_KEPT = 500
"""How many categories, families or skus are remembered as bought before."""


def match_of(record: Record) -> EventMatch:
    """Return the events that a record names."""
    matching = record.get("matching", Word)
    return EventMatch(record.texts("event"), None if matching is None else matching.text)


def state_of(record: Record, key: str | None, problems: Problems) -> ProductState | None:
    """Return the state of a product that a record describes, for a moment that is kept per key."""
    between, equals = record.get("between", tuple), record.get("equals", int)
    if key != "sku":
        problems.error(record.at("state"), "E044", "'state' needs a moment with `key: sku`")
    if between is not None and equals is not None:
        problems.error(record.at("equals"), "E013", "only one of 'between' and 'equals' can be set for this state")
    elif between is None and equals is None:
        problems.error(record.place, "E011", "this state has no 'between', write it like between: [1, 10]")
    elif equals is not None:
        return ProductState(equals, equals)
    elif between is not None and (len(between) != 2 or between[0] > between[1]):
        problems.error(record.at("between"), "E051", "'between' takes the least and the most, like [1, 10]")
    elif between is not None:
        return ProductState(between[0], between[1])
    return None


@dataclass(frozen=True, slots=True)
class Builder:
    """Builds the shape of one moment, and the hidden features that it needs."""

    name: str
    key: str | None
    catalogue: Catalogue
    problems: Problems
    hidden: dict[str, Feature]

    # --- counts and sums ---

    def total(self, record: Record) -> Total | None:
        """Return the shape of a count or a sum."""
        head = record.kind.head
        tally, unless = record.get(head, Record), record.get("unless", Record)
        if tally is None:
            return None
        event, field, unit, at_least = self._summed(tally) if head == "sum" else self._counted(tally)
        where = self._where(tally, event)
        if not record.sound or at_least is None:
            return None
        feature = Feature(
            f"{self.name}.{head}",
            head,
            event.events,
            field=field,
            key=self.key,
            over=tally.need("over", int),
            where=where,
            unit=unit,
            max_keys=20,
        )
        self.hidden[feature.name] = feature
        within = 0 if unless is None else unless.need("within", int)
        until = None if unless is None else match_of(unless)
        return Total(event, feature.name, at_least, field, where, until, within)

    def _counted(self, tally: Record) -> tuple[EventMatch, str | None, str, int | None]:
        return match_of(tally), None, "number", tally.get("at_least", int)

    def _summed(self, tally: Record) -> tuple[EventMatch, str | None, str, int | None]:
        summed, enough = tally.get("property", Property), tally.get("at_least", Scalar)
        if summed is None or enough is None:
            return EventMatch(()), None, "", None
        if summed.type not in ("number", "money"):
            self.problems.error(
                summed.place, "E042", f"'sum' takes a number or money, {summed.event}.{summed.name} is neither"
            )
            return EventMatch((summed.event,)), None, "", None
        at_least = PARSERS["money" if summed.type == "money" else "count"](enough, self.problems)
        return EventMatch((summed.event,)), summed.name, summed.type, at_least if isinstance(at_least, int) else None

    def _where(self, tally: Record, event: EventMatch) -> Condition | None:
        text = tally.get("where", Scalar)
        if text is None or not event.events:
            return None
        first, *others = (self.catalogue.events[name].properties for name in event.events)
        shared = {name: kind for name, kind in first.items() if all(other.get(name) == kind for other in others)}
        return compile_condition(text, Scope(event=shared), self.problems)

    # --- sequences ---

    def sequence(self, record: Record) -> Sequence | None:
        """Return the shape of a sequence."""
        steps, unless = list(record.records("sequence")), record.get("unless", Record)
        wait = steps.pop() if steps and steps[-1].kind.head == "wait" else None
        state = steps.pop(0) if steps and steps[0].kind.head == "state" else None
        then = steps.pop() if steps and steps[-1].kind.head == "state" else None
        for step in steps:
            if step.kind.head == "wait":
                self.problems.error(
                    step.place, "E044", "'wait' stands at the end, give the event that follows a 'within'"
                )
            elif step.kind.head == "state":
                self.problems.error(
                    step.place, "E044", "a state stands before the first event or after the last, not between two"
                )
        events = [step for step in steps if step.kind.head == "event"]
        if not events:
            if record.sound:
                self.problems.error(record.at("sequence"), "E011", "the sequence has no 'event'")
            return None
        self._check_events(events)
        for first in (state, events[0]):
            if first is not None:
                self._check_first(first)
        for step in events[1:]:
            self._check_later(step)
        if then is not None and "within" not in then.places:
            self.problems.error(then.place, "E011", "this state has no 'within', write it like within: 24h")
        before, after = (None if one is None else state_of(one, self.key, self.problems) for one in (state, then))
        if not record.sound or not all(step.sound for step in record.records("sequence")):
            return None
        return Sequence(
            stages=tuple(Stage(match_of(step), step.get("within", int) or 0) for step in events),
            ordered=True,
            wait=0 if wait is None else wait.need("wait", int),
            unless=None if unless is None else match_of(unless),
            first_per=self._first_per(events[0]),
            state=before,
            then=after,
            then_within=0 if then is None else then.get("within", int) or 0,
        )

    def either_order(self, record: Record) -> Sequence | None:
        """Return the shape of events in any order."""
        either, unless = record.get("either_order", Record), record.get("unless", Record)
        if either is None:
            return None
        steps = either.records("of")
        for step in steps:
            if step.kind.head == "wait":
                self.problems.error(step.place, "E044", "'wait' does not fit, either_order has no last event")
                continue
            for field in ("within", "first_per"):
                if field in step.places:
                    self.problems.error(
                        step.places[field], "E044", f"'{field}' does not fit, either_order has no first event"
                    )
        events = [step for step in steps if step.kind.head == "event"]
        states = [step for step in steps if step.kind.head == "state"]
        self._check_events(events)
        for more in states[1:]:
            self.problems.error(more.place, "E044", "a second state does not fit, a product has one stock")
        then = state_of(states[0], self.key, self.problems) if states else None
        if steps and not events:
            self.problems.error(either.at("of"), "E011", "'of' has no 'event': nobody would be waiting")
        elif steps and len(steps) < 2:
            self.problems.error(either.at("of"), "E011", "'of' has one event, in either order there are two or more")
        if not record.sound or not all(step.sound for step in steps) or not events:
            return None
        within = either.need("within", int)
        return Sequence(
            stages=tuple(Stage(match_of(step), 0 if place else within) for place, step in enumerate(events)),
            ordered=False,
            wait=0 if unless is None else unless.need("within", int),
            unless=None if unless is None else match_of(unless),
            then=then,
            then_within=within,
        )

    def _check_events(self, events: list[Record]) -> None:
        seen: set[str] = set()
        for step in events:
            for word in step.words("event"):
                if word.text in seen:
                    self.problems.error(
                        word.place, "E044", f"{word.text} a second time does not fit, a `count` says how many there are"
                    )
                seen.add(word.text)

    def _check_first(self, step: Record) -> None:
        if "within" in step.places:
            self.problems.error(step.places["within"], "E044", "'within' does not fit, nothing comes before this event")

    def _check_later(self, step: Record) -> None:
        if "within" not in step.places:
            self.problems.error(step.place, "E011", "this event has no 'within', write it like within: 14d")
        if self.key is not None and "matching" not in step.places:
            self.problems.error(step.place, "E011", f"this event has no 'matching', write it like matching: {self.key}")
        if "first_per" in step.places:
            self.problems.error(
                step.places["first_per"], "E044", "'first_per' does not fit, it goes with the first event"
            )

    def _first_per(self, step: Record) -> str | None:
        word = step.get("first_per", Word)
        if word is None:
            return None
        # One memory for all moments that ask for the same, and named by what it is.
        events = step.texts("event")
        name = f"first.{word.text}.{'+'.join(events)}"
        self.hidden[name] = Feature(name, "first_time", events, key=word.text, unit="instant", max_keys=FIRSTS_KEPT)
        return name

"""Records to campaigns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter

from orchestrator.arbitration.campaign import After, Campaign, Exclusion, Measure, Offer, Send, SharedCap
from orchestrator.conditions import And, Condition, InSegment, Or
from orchestrator.definitions.expressions import ANY, Declared, Scope, compile_condition
from orchestrator.definitions.nodes import Place, Problems, Scalar, did_you_mean
from orchestrator.definitions.records import Record, Word, clean
from orchestrator.definitions.values import basis_points, minor_units, shown


class CampaignBuilder:
    """Builds campaigns over declared features, segments and moments; `moments` has each moment's key.

    `windows` has how long each campaign is measured, by name; None where that is not known.
    """

    def __init__(
        self,
        features: Mapping[str, Declared],
        segments: frozenset[str],
        moments: Mapping[str, str | None],
        windows: Mapping[str, int | None],
        problems: Problems,
    ) -> None:
        self.features = features
        self.segments = segments
        self.moments = moments
        self.windows = windows
        self.problems = problems

    def build(self, record: Record) -> Campaign | None:
        """Return the campaign that a record describes, or None if anything is wrong with it."""
        mark = len(self.problems.found)
        when = self._when(record)
        only_if = _all_of(self._audience(record), self._only_if(record))
        after, exclusions = self._after(record), self._exclusions(record)
        for word in record.words("leads_to"):
            self._other(word, record, "lead to")
        offer = self._offer(record)
        cap = self._cap(record)
        self._check_control(record)
        if not record.sound or not clean(self.problems, mark):
            return None
        control = record.values["control"]
        start, floor = (control, control) if isinstance(control, int) else _shares(record.need("control", Record))
        return Campaign(
            name=record.need("campaign", Word).text,
            when=when,
            send=_send(record.need("send", Record)),
            measure=_measure(record.need("measure", Record)),
            control_bp=start,
            control_floor_bp=floor,
            priority=record.need("priority", int),
            cost=_cost(record.get("cost", Record)),
            offer=offer,
            cap=cap,
            only_if=only_if,
            after=after,
            exclusions=exclusions,
            leads_to=record.texts("leads_to"),
        )

    def _when(self, record: Record) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for word in record.words("when"):
            if word.text in found:
                self.problems.error(word.place, "E047", f"moment '{word.text}' is named twice")
            elif word.text not in self.moments:
                near = did_you_mean(word.text, self.moments)
                self.problems.error(word.place, "E045", f"unknown moment '{word.text}'{near}")
            found[word.text] = None
        return tuple(found)

    def _only_if(self, record: Record) -> Condition | None:
        text = record.get("only_if", Scalar)
        if text is None:
            return None
        return compile_condition(text, self._scope(record), self.problems)

    def _scope(self, record: Record) -> Scope:
        keys = {self.moments[name] for name in record.texts("when") if name in self.moments}
        key = keys.pop() if len(keys) == 1 else None
        return Scope(features=self.features, segments=self.segments, moment=True, key=key)

    def _offer(self, record: Record) -> Offer | None:
        offer, cost = record.get("offer", Record), record.get("cost", Record)
        choices: dict[str, None] = {}
        for word in () if offer is None else offer.words("choose"):
            if word.text in choices:
                self.problems.error(word.place, "E047", f"offer '{word.text}' is named twice")
            choices[word.text] = None
        price = None if cost is None else cost.values.get("offer")
        if isinstance(price, int) and price and choices:
            assert cost is not None
            self.problems.error(
                cost.at("offer"), "E051", "there are offers to choose from, say what each of them costs by name"
            )
        costs = {}
        for name, scalar in self._of_choices(price, choices):
            costs[name] = self._price(scalar)
        if offer is None:
            return None
        asked = {}
        for field in ("only_if", "never_if"):
            compiled = {
                name: compile_condition(scalar, self._scope(record), self.problems)
                for name, scalar in self._of_choices(offer.values.get(field), choices)
            }
            asked[field] = {name: condition for name, condition in compiled.items() if condition is not None}
        return Offer(tuple(choices), asked["only_if"], asked["never_if"], costs)

    def _cap(self, record: Record) -> SharedCap | None:
        cap = record.get("cap", Record)
        if cap is None or not cap.sound:
            return None
        per = cap.need("per", Word)
        for word in record.words("when"):
            if self.moments.get(word.text, ANY) not in (per.text, ANY):
                message = f"moment '{word.text}' has no key '{per.text}', so nobody can tell what the cap counts"
                self.problems.error(per.place, "E044", message)
        return SharedCap(cap.need("total", int), cap.need("over", int))

    def _of_choices(self, named: object, choices: Mapping[str, None]) -> Iterator[tuple[str, Scalar]]:
        """Yield what is written for each offer; a name that is none of them is a problem."""
        for name, scalar in named.items() if isinstance(named, dict) else ():
            if name in choices:
                yield name, scalar
            else:
                near = did_you_mean(name, choices) if choices else ", this campaign has none to choose from"
                self.problems.error(scalar.place, "E054", f"unknown offer '{name}'{near}")

    def _price(self, scalar: Scalar) -> tuple[int, int]:
        """Return what an offer costs: minor units, and basis points of what is ordered."""
        share, _, what = scalar.text.partition(" of ")
        amount, part = minor_units(scalar.text), basis_points(share.strip())
        if amount is not None:
            return amount, 0
        if part is None or what.strip() != "order":
            said = f'{shown(scalar.text)} is not what an offer costs, write it like 4.90 or "10% of order"'
            self.problems.error(scalar.place, "E021", said)
            return 0, 0
        return 0, part

    def _audience(self, record: Record) -> Condition | None:
        words = record.words("audience")
        for word in words:
            if word.text not in self.segments:
                near = did_you_mean(word.text, self.segments)
                self.problems.error(word.place, "E052", f"unknown segment '{word.text}'{near}")
        if not words:
            return None
        either = tuple(InSegment(word.text) for word in words)
        return Condition(" or ".join(map(str, either)), either[0] if len(either) == 1 else Or(either))

    def _after(self, record: Record) -> After | None:
        after = record.get("after", Record)
        if after is None or not after.sound:
            return None
        word, within = after.need("campaign", Word), after.need("within", int)
        self._other(word, record, "come after")
        window = self.windows.get(word.text)
        if window is not None and within <= window:
            self.problems.error(
                after.at("within"),
                "E051",
                f"'within' is over before '{word.text}' lets go of the slot: this never comes true",
            )
        return After(word.text, after.kind.head, within)

    def _exclusions(self, record: Record) -> tuple[Exclusion, ...]:
        found = []
        for exclude in record.records("exclude"):
            if exclude.sound:
                word, length = exclude.need("after", Word), exclude.need("for", int)
                if word.text != record.texts("campaign")[0]:  # to stay away from oneself for a time makes sense
                    self._other(word, record, "stay away after")
                window = self.windows.get(word.text)
                if window is not None and length <= window:
                    self.problems.warn(
                        exclude.at("for"),
                        "W003",
                        f"'for' has no effect: '{word.text}' holds the slot for as long anyway",
                    )
                found.append(Exclusion(word.text, length))
        return tuple(found)

    def _other(self, word: Word, record: Record, verb: str) -> None:
        """Check the name of another campaign."""
        if word.text not in self.windows:
            near = did_you_mean(word.text, self.windows)
            self.problems.error(word.place, "E052", f"unknown campaign '{word.text}'{near}")
        elif word.text in record.texts("campaign"):
            self.problems.error(word.place, "E051", f"'{word.text}' cannot {verb} itself")

    def _check_control(self, record: Record) -> None:
        control = record.values.get("control")
        if isinstance(control, Record):
            start, floor = control.get("start", int), control.get("floor", int)
            if start is not None and floor is not None and floor > start:
                self.problems.error(control.at("floor"), "E051", "'floor' is larger than 'start'")


def check_circles(campaigns: Mapping[str, Campaign], places: Mapping[str, Place], problems: Problems) -> None:
    """Warn of campaigns that lead to one another in a circle: it is followed only so far."""
    left = {name: [other for other in campaign.leads_to if other in campaigns] for name, campaign in campaigns.items()}
    while True:
        try:
            TopologicalSorter(left).prepare()
        except CycleError as error:
            circle: list[str] = error.args[1][::-1]
            problems.warn(places[circle[0]], "W004", f"a circle of 'leads_to': {' -> '.join(circle)}")
            left[circle[0]].remove(circle[1])
        else:
            return


def window_of(record: Record) -> int | None:
    """Return how long a campaign is measured, None where it does not say so."""
    measure = record.get("measure", Record)
    return None if measure is None else measure.get("for", int)


def _all_of(*conditions: Condition | None) -> Condition | None:
    """Return one condition that stands for all there are."""
    there = [condition for condition in conditions if condition is not None]
    if len(there) < 2:
        return there[0] if there else None
    text = " and ".join(f"({condition.text})" for condition in there)
    return Condition(text, And(tuple(condition.expression for condition in there)))


def _shares(record: Record) -> tuple[int, int]:
    start, floor = record.need("start", int), record.get("floor", int)
    return start, start if floor is None else floor


def _send(record: Record) -> Send:
    return Send(
        channel=record.need("channel", Word).text,
        template=record.need("template", Word).text,
        content=record.texts("with"),
        purpose=record.need("purpose", Word).text,
    )


def _measure(record: Record) -> Measure:
    return Measure(
        objective=record.need("objective", Word).text,
        window=record.need("for", int),
        guard=record.texts("guard"),
    )


def _cost(record: Record | None) -> int:
    if record is None:
        return 0
    offer = record.values.get("offer")
    return record.need("send", int) + (offer if isinstance(offer, int) else 0)

"""Records to campaigns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter

from orchestrator.arbitration.campaign import After, Campaign, Exclusion, Measure, Offer, SharedCap
from orchestrator.conditions import And, Condition, InSegment, Or
from orchestrator.definitions.catalogue import Catalogue
from orchestrator.definitions.expressions import ANY, Declared, Scope, compile_condition
from orchestrator.definitions.nodes import Place, Problems, Scalar, did_you_mean
from orchestrator.definitions.records import Record, Word, clean
from orchestrator.definitions.series import SeriesBuilder, send_of, to_audience
from orchestrator.definitions.values import basis_points, minor_units, shown
from orchestrator.moments.rules import EventMatch

_EXEMPT_FIELDS = ("campaign", "when", "class", "only_if", "audience", "send", "recheck_before_send")
"""What a transactional or legal campaign may say."""


class CampaignBuilder:
    """Builds campaigns over declared features, segments and moments; `moments` has each moment's key.

    `windows` has how long each campaign is measured, by name; None where that is not known, 0 where it never is.
    """

    def __init__(
        self,
        features: Mapping[str, Declared],
        segments: frozenset[str],
        moments: Mapping[str, str | None],
        windows: Mapping[str, int | None],
        catalogue: Catalogue,
        problems: Problems,
    ) -> None:
        self.features = features
        self.segments = segments
        self.moments = moments
        self.windows = windows
        self.catalogue = catalogue
        self.problems = problems

    def build(self, record: Record) -> Campaign | None:
        """Return the campaign that a record describes, or None if anything is wrong with it."""
        mark = len(self.problems.found)
        when = self._when(record)
        only_if = _all_of(self._audience(record), self._condition(record, "only_if"))
        recheck = self._condition(record, "recheck_before_send")
        exempt = self._exempt(record)
        series = SeriesBuilder(self._key(record), self.catalogue, self.problems)
        steps, stops = series.steps(record), series.stops(record)
        after, exclusions = self._after(record), self._exclusions(record)
        for word in record.words("leads_to"):
            self._other(word, record, "lead to")
        for word in record.words("grew_from"):
            if word.text in record.texts("campaign"):
                self.problems.error(word.place, "E051", f"'{word.text}' cannot grow from itself")
        offer = self._offer(record)
        cap = self._cap(record)
        self._check_control(record)
        if not record.sound or not clean(self.problems, mark):
            return None
        if exempt is not None:
            return replace(exempt, only_if=only_if, recheck_before_send=recheck)
        cost = record.get("cost", Record)
        control = record.values["control"]
        start, floor = (control, control) if isinstance(control, int) else _shares(record.need("control", Record))
        return Campaign(
            name=record.need("campaign", Word).text,
            when=when,
            send=steps[0].send if steps else send_of(record.need("send", Record)),
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
            series=steps,
            stop_when=stops,
            recheck_before_send=recheck,
            send_cost=0 if cost is None else cost.need("send", int),
            grew_from=next(iter(record.texts("grew_from")), ""),
            pins=record.texts("on_change") == ("pin",),
        )

    def _exempt(self, record: Record) -> Campaign | None:
        """Return the transactional or legal campaign that a record describes, None if it is neither or wrong."""
        kind = record.get("class", Word)
        events = [match for match in record.records("when") if match.sound]
        if kind is None or kind.text == "marketing":
            for match in record.records("when"):
                self.problems.error(
                    match.place,
                    "E044",
                    "an event does not fit, a marketing campaign answers moments: declare one for it",
                )
            return None
        for word in record.words("when"):
            self.problems.error(
                word.place,
                "E044",
                f"a {kind.text} message answers an event, write it like when: {{ event: order.placed }}",
            )
        for name, place in record.places.items():
            if name not in _EXEMPT_FIELDS:
                self.problems.error(
                    place, "E015", f"'{name}' does not go with class: {kind.text}, which is not measured"
                )
        send = record.get("send", Record)
        if send is not None and to_audience(send):
            said = f"an audience does not fit, a {kind.text} message has no window at whose end anybody is removed"
            self.problems.error(send.at("channel"), "E044", said)
        if send is None or not send.sound or not events:
            return None
        named = record.get("campaign", Word)
        cues = (EventMatch((event,), self._told_by(event)) for match in events for event in match.texts("event"))
        return Campaign(
            name="" if named is None else named.text,
            when=(),
            send=send_of(send, kind.text),
            measure=Measure("margin", 0),
            control_bp=0,
            control_floor_bp=0,
            message_class=kind.text,
            on=tuple(cues),
        )

    def _told_by(self, event: str) -> str | None:
        """Return the property that says what an event is about: its first text."""
        return next(iter(self.catalogue.events[event].keys), None)

    def _key(self, record: Record) -> str | None:
        keys = {self.moments[name] for name in record.texts("when") if name in self.moments}
        return keys.pop() if len(keys) == 1 else None

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

    def _condition(self, record: Record, field: str) -> Condition | None:
        text = record.get(field, Scalar)
        return None if text is None else compile_condition(text, self._scope(record), self.problems)

    def _scope(self, record: Record) -> Scope:
        moment = bool(record.words("when"))
        return Scope(features=self.features, segments=self.segments, moment=moment, key=self._key(record))

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
        if window and within <= window:
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
                if word.text not in record.texts("campaign"):  # to stay away from oneself for a time makes sense
                    self._other(word, record, "stay away after")
                window = self.windows.get(word.text)
                if window and length <= window:
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
        elif self.windows[word.text] == 0:
            self.problems.error(word.place, "E051", f"'{word.text}' needs no slot, so nobody remembers who got it")

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


def check_lineage(campaigns: Mapping[str, Campaign], places: Mapping[str, Place], problems: Problems) -> None:
    """Note campaigns that grew from one another in a circle: none of them was there before the others."""
    for name in sorted(campaigns):
        line, ancestor = [name], campaigns[name].grew_from
        while ancestor in campaigns and ancestor not in line:
            line.append(ancestor)
            ancestor = campaigns[ancestor].grew_from
        if ancestor == name and len(line) > 1 and name == min(line):
            said = f"'{name}' cannot grow from itself: {' -> '.join((*line, name))}"
            problems.error(places[name], "E051", said)


def window_of(record: Record) -> int | None:
    """Return how long a campaign is measured, None where it does not say so, 0 where it never is."""
    if record.texts("class") not in ((), ("marketing",)):
        return 0
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

"""Records to moments."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from orchestrator.conditions import Age, Compare, Condition, Expression, Literal, Read, walk
from orchestrator.definitions.catalogue import Catalogue
from orchestrator.definitions.expressions import ANY, BOUGHT, Declared, Scope, compile_condition
from orchestrator.definitions.features import check_carried, check_key
from orchestrator.definitions.fields import DAYS
from orchestrator.definitions.nodes import Problems, Scalar, did_you_mean
from orchestrator.definitions.records import Property, Record, Word, clean
from orchestrator.definitions.sequences import Builder, match_of, state_of
from orchestrator.definitions.values import TYPE_WORDS, WINDOW
from orchestrator.events import STOCK
from orchestrator.features import Feature
from orchestrator.moments.rules import (
    Absence,
    Around,
    Calendar,
    During,
    EventMatch,
    Launch,
    Membership,
    Moment,
    PickOne,
    Schedule,
    Shape,
    Silence,
)


class MomentBuilder:
    """Builds moments over declared features and segments."""

    def __init__(
        self, catalogue: Catalogue, features: Mapping[str, Declared], segments: frozenset[str], problems: Problems
    ) -> None:
        self.catalogue = catalogue
        self.features = features
        self.segments = segments
        self.problems = problems
        self.hidden: dict[str, Feature] = {}
        """Features that moments need and nobody wrote, by name."""

    def build(self, record: Record, hosts: Mapping[str, Moment | None], names: Collection[str]) -> Moment | None:
        """Return the moment that a record describes, or None if anything is wrong with it.

        `hosts` are the moments during which others may live, one that is wrong itself being None; `names` are all.
        """
        mark = len(self.problems.found)
        key = record.get("key", Word)
        host = self._host(record, hosts, names) if record.kind.head == "during" else None
        kept_per = host.key if host is not None else None if key is None else key.text
        if record.kind.head == "during" and host is None:
            kept_per = ANY
        only_if = self._check(record, kept_per)
        shape = self._shape(record, kept_per, only_if)
        if not record.sound or shape is None or not clean(self.problems, mark):
            return None
        lasts = record.need("lasts", int)
        pick_one, again = record.get("pick_one", Record), record.get("again", Record)
        return Moment(
            name=record.need("moment", Word).text,
            say=record.need("say", str),
            shape=shape,
            key=kept_per,
            only_if=only_if,
            cancelled_by=tuple(self._ending(ending, kept_per) for ending in record.records("cancelled_by")),
            lasts=None if lasts == WINDOW else lasts,
            pick_one=None if pick_one is None else _pick_one(pick_one),
            at_most_every=(None if again is None else again.get("at_most_every", int)) or 0,
        )

    def _ending(self, ending: Record, key: str | None) -> EventMatch:
        if ending.kind.head == "event":
            return match_of(ending)
        return EventMatch((STOCK,), "sku", state_of(ending, key, self.problems))

    def _shape(self, record: Record, key: str | None, only_if: Condition | None) -> Shape | None:
        head = record.kind.head
        if _is_launch(record):
            return self._launch(record, only_if) if record.sound else None
        if head in _SHAPES:
            return _SHAPES[head](record) if record.sound else None
        if head == "during":
            word = record.get("during", Word)
            return None if word is None else During(word.text)
        if head in ("entered", "left"):
            word, current = record.get(head, Word), record.get("include_current", Record)
            per_hour = 0 if current is None else current.get("max_per_hour", int) or 0
            return None if word is None else Membership(self._segment(word), head == "entered", per_hour)
        if head == "schedule":
            return self._schedule(record)
        name = record.get("moment", Word)
        builder = Builder("" if name is None else name.text, key, self.catalogue, self.problems, self.hidden)
        if head == "sequence":
            return builder.sequence(record)
        return builder.either_order(record) if head == "either_order" else builder.total(record)

    def _segment(self, word: Word) -> str:
        if word.text not in self.segments:
            near = did_you_mean(word.text, self.segments)
            self.problems.error(word.place, "E031", f"unknown segment '{word.text}'{near}")
        return word.text

    def _schedule(self, record: Record) -> Shape | None:
        schedule = record.get("schedule", Record)
        segment = None if schedule is None else schedule.get("segment", Word)
        if schedule is None or segment is None or not schedule.sound:
            return None
        day = DAYS.index(schedule.need("every", Word).text) - 1
        weekday = None if day < 0 else day
        return Schedule(self._segment(segment), weekday, schedule.need("at", int), schedule.need("spread", int))

    def _launch(self, record: Record, only_if: Condition | None) -> Shape | None:
        around = record.need("around", Record)
        if record.need("key", Word).text != "category" or (only_if is None and "only_if" in record.places):
            return None
        bought = (
            [] if only_if is None else [within for node in walk(only_if.expression) if (within := _bought_within(node))]
        )
        if not bought:
            place, example = around.at("date"), 'only_if: "bought_within(category, 90d)"'
            self.problems.error(place, "E011", f"nothing says whom a launch concerns, write it like {example}")
            return None
        return Launch(f"{BOUGHT}category", max(bought), around.need("from", int), around.need("to", int))

    def _host(self, record: Record, hosts: Mapping[str, Moment | None], names: Collection[str]) -> Moment | None:
        word = record.get("during", Word)
        if word is None:
            return None
        if word.text in hosts:
            return hosts[word.text]
        near = did_you_mean(word.text, names)
        self.problems.error(word.place, "E045", f"unknown moment '{word.text}'{near}")
        return None

    def _check(self, record: Record, key: str | None) -> Condition | None:
        """Note what does not fit together, and return the compiled condition."""
        check_key(record, self._begin(record), self.catalogue, self.problems)
        steps = [*record.records("sequence"), *(s for e in record.records("either_order") for s in e.records("of"))]
        for match in [m for name in ("unless", "cancelled_by") for m in record.records(name)] + steps:
            if match.kind.head in ("", "event"):
                self._check_match(match, key)
        for ending in record.records("cancelled_by"):
            if ending.kind.head == "state":
                state_of(ending, key, self.problems)
        for name, check in (("absent", self._check_silence), ("around", self._check_around),
                            ("calendar", self._check_calendar)):  # fmt: skip
            part = record.get(name, Record)
            if part is not None:
                check(record, part)
        text = record.get("only_if", Scalar)
        scope = Scope(features=self.features, segments=self.segments, moment=True, key=key)
        return None if text is None else compile_condition(text, scope, self.problems)

    def _begin(self, record: Record) -> list[Word]:
        """Return the events that a moment may begin with, each of which has to say which key it is about."""
        starts = [match for name in ("starts_on", "restarts_on", "count") for match in record.records(name)]
        starts += [step for step in record.records("sequence") if step.kind.head == "event"]
        starts += [step for one in record.records("either_order") for step in one.records("of")]
        begin = [word for match in starts if match.kind.head in ("", "event") for word in match.words("event")]
        for total in record.records("sum"):
            summed = total.get("property", Property)
            begin += [] if summed is None else [Word(summed.event, summed.place)]
        return begin

    def _check_match(self, match: Record, key: str | None) -> None:
        matching = match.get("matching", Word)
        if matching is None:
            return
        if key == ANY:
            return
        if matching.text == key:
            check_carried(key, matching.place, match.words("event"), self.catalogue, self.problems)
        else:
            says = "has no key" if key is None else f"is kept per {key}"
            self.problems.error(
                matching.place, "E044", f"'matching: {matching.text}' does not fit, the moment {says}"
            )  # fmt: skip

    def _check_silence(self, record: Record, absent: Record) -> None:
        again, event = record.get("again", Record), absent.texts("event")
        for word in () if again is None else again.words("after_event"):
            if event and word.text not in event:
                self.problems.error(
                    word.place, "E044", f"'after_event: {word.text}' does not fit, a silence begins with {event[0]}"
                )
        rhythm = absent.get("for", Record)
        if rhythm is None:
            return
        of = self._declared(rhythm, "of")
        if of is not None and of.type not in ("duration", ANY):
            saw = TYPE_WORDS[of.type]
            self.problems.error(rhythm.at("of"), "E044", f"'of' takes a length of time, this feature is {saw}")
        elif of is not None and of.key is not None:
            self.problems.error(rhythm.at("of"), "E044", f"'of' takes one value per customer, not one per {of.key}")
        least, most = rhythm.get("min", int), rhythm.get("max", int)
        if least is not None and most is not None and least > most:
            self.problems.error(rhythm.at("max"), "E051", "'max' is shorter than 'min'")

    def _check_around(self, record: Record, around: Record) -> None:
        if _is_launch(record):
            self._check_launch(record, around)
            self._check_window(around)
            return
        if "again" in record.places and "pick_one" in record.places:
            self.problems.error(record.at("again"), "E013", "only one of 'again' and 'pick_one' can be set here")
        if "matching" in around.places:
            self.problems.error(around.at("matching"), "E044", "'matching' goes with `date: product.launch_at`")
        date, key = self._declared(around, "date"), record.get("key", Word)
        if date is not None and date.type not in ("instant", ANY):
            self.problems.error(
                around.at("date"), "E044", f"'date' takes an instant, this feature is {TYPE_WORDS[date.type]}"
            )
        elif date is not None and key is not None and date.key not in (key.text, None):
            self.problems.error(
                around.at("date"), "E044", f"this feature is kept per {date.key}, the moment per {key.text}"
            )  # fmt: skip
        self._check_window(around)

    def _check_launch(self, record: Record, around: Record) -> None:
        key = record.get("key", Word)
        if key is not None and key.text != "category":
            self.problems.error(key.place, "E044", "a launch is of a category, write key: category")
        if "matching" not in around.places:
            self.problems.error(
                around.place, "E011", "'around' has no 'matching', write it like matching: category"
            )  # fmt: skip
        for name in ("unless", "pick_one"):
            if name in record.places:
                self.problems.error(record.at(name), "E015", f"'{name}' does not go with `date: product.launch_at`")

    def _check_calendar(self, record: Record, calendar: Record) -> None:  # noqa: ARG002 - one shape for all checks
        self._check_window(calendar)

    def _check_window(self, window: Record) -> None:
        start, end = window.get("from", int), window.get("to", int)
        # A calendar's window ends with its last day, one around a date at the very instant.
        if start is not None and end is not None and (start > end or (start == end and window.kind.name == "around")):
            self.problems.error(window.at("to"), "E051", "the window ends before it begins")

    def _declared(self, record: Record, field: str) -> Declared | None:
        word = record.get(field, Word)
        if word is None:
            return None
        if word.text not in self.features:
            near = did_you_mean(word.text, self.features)
            self.problems.error(word.place, "E043", f"unknown feature '{word.text}'{near}")
        return self.features.get(word.text)


def _is_launch(record: Record) -> bool:
    around = record.get("around", Record)
    return around is not None and around.texts("date") == ("product.launch_at",)


def _bought_within(node: Expression) -> int:
    """Return within which time a node asks for something bought of a category, 0 if it does not."""
    match node:
        case Compare("<=", Age(Read("feature", name)), Literal(int(length))) if name == f"{BOUGHT}category":
            return length
    return 0


def _absence(record: Record) -> Absence:
    restarts, unless = record.get("restarts_on", Record), record.need("unless", Record)
    return Absence(
        starts_on=match_of(record.need("starts_on", Record)),
        restarts_on=None if restarts is None else match_of(restarts),
        unless=match_of(unless),
        within=unless.need("within", int),
    )


def _silence(record: Record) -> Silence:
    absent = record.need("absent", Record)
    rhythm = absent.need("for", Record)
    return Silence(
        event=match_of(absent),
        times_permille=rhythm.need("times", int),
        of=rhythm.need("of", Word).text,
        min=rhythm.need("min", int),
        max=rhythm.need("max", int),
    )


def _around(record: Record) -> Around:
    around, unless = record.need("around", Record), record.get("unless", Record)
    return Around(
        date=around.need("date", Word).text,
        start=around.need("from", int),
        end=around.need("to", int),
        unless=None if unless is None else match_of(unless),
    )


def _calendar(record: Record) -> Calendar:
    calendar = record.need("calendar", Record)
    return Calendar(
        field=calendar.need("date", Word).text,
        start=calendar.need("from", int),
        end=calendar.need("to", int),
        minute=calendar.need("at", int),
        feb_29=calendar.need("feb_29", Word).text,
        ignore_dates=frozenset(calendar.get("ignore_dates", tuple) or ()),
    )


def _pick_one(record: Record) -> PickOne:
    return PickOne(by=record.need("by", Word).text, at_most_every=record.need("at_most_every", int))


_SHAPES: Mapping[str, Callable[[Record], Shape]] = {
    "starts_on": _absence, "absent": _silence, "around": _around, "calendar": _calendar,
}  # fmt: skip

"""Records to features."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.conditions import Condition
from orchestrator.definitions.catalogue import Catalogue
from orchestrator.definitions.expressions import Scope, compile_condition
from orchestrator.definitions.nodes import Place, Problems, Scalar, did_you_mean
from orchestrator.definitions.records import Property, Record, Word, clean
from orchestrator.definitions.values import TYPE_WORDS
from orchestrator.features import Feature

_UNITS = {
    "count": "number", "first_time": "instant", "last_time": "instant", "age_of": "duration", "median_gap": "duration",
    "next_order_date": "instant",
}  # fmt: skip


def build_features(name: str, record: Record, catalogue: Catalogue, problems: Problems) -> tuple[Feature, ...]:
    """Return the feature that a record describes, before it any hidden one it needs, or nothing if it is wrong."""
    if record.kind.head == "age_of":
        return _age_of(name, record, catalogue, problems)
    mark = len(problems.found)
    kind = record.kind.head if record.kind.head != "predict" else "next_order_date"
    events = record.words("from" if kind == "next_order_date" else kind)
    taken = record.values.get(kind)
    field = unit = None
    if isinstance(taken, Property):
        events = (Word(taken.event, taken.place),)
        field, unit = taken.name, taken.type
        _check_type(kind, taken, problems)
    key = check_key(record, events, catalogue, problems)
    where = _where(record, events, catalogue, problems)
    if not record.sound or not clean(problems, mark):
        return ()
    otherwise = record.values.get("else")
    feature = Feature(
        name=name,
        kind=kind,
        events=tuple(event.text for event in events),
        field=field,
        key=key,
        over=record.get("over", int),
        where=where,
        min_samples=record.get("min_samples", int) or 0,
        otherwise=otherwise if isinstance(otherwise, int) else None,
        unit=unit or _UNITS[kind],
    )
    return (feature,)


def _age_of(name: str, record: Record, catalogue: Catalogue, problems: Problems) -> tuple[Feature, ...]:
    mark = len(problems.found)
    instant = record.get("age_of", Record)
    if instant is None:
        return ()
    events = instant.words(instant.kind.head)
    where = _where(instant, events, catalogue, problems)
    if not record.sound or not clean(problems, mark):
        return ()
    hidden = Feature(
        name=f"{name}.of",
        kind=instant.kind.head,
        events=tuple(event.text for event in events),
        where=where,
        unit="instant",
    )
    return (hidden, Feature(name=name, kind="age_of", of=hidden.name, unit="duration"))


def _check_type(kind: str, taken: Property, problems: Problems) -> None:
    fitting = ("number", "money") if kind == "sum" else ("number", "money", "text", "instant")
    if taken.type not in fitting:
        what = "a number or money" if kind == "sum" else "a number, money or text"
        saw = TYPE_WORDS[taken.type]
        problems.error(taken.place, "E042", f"'{kind}' takes {what}, {taken.event}.{taken.name} is {saw}")


def check_key(record: Record, events: Iterable[Word], catalogue: Catalogue, problems: Problems) -> str | None:
    """Return what a record is kept per, after checking that its events can say so."""
    words = record.words("key")
    if not words:
        return None
    check_carried(words[0].text, words[0].place, events, catalogue, problems)
    return words[0].text


def check_carried(key: str, place: Place, events: Iterable[Word], catalogue: Catalogue, problems: Problems) -> None:
    """Note every event that cannot say which key it is about."""
    for event in events:
        known = catalogue.events[event.text]
        if not known.carries(key):
            problems.error(place, "E048", f"{event.text} has no '{key}'{did_you_mean(key, known.keys)}")


def _where(record: Record, events: tuple[Word, ...], catalogue: Catalogue, problems: Problems) -> Condition | None:
    text = record.get("where", Scalar)
    if text is None or not events:
        return None
    # A property must mean something for each of the events, or the condition is unknown for some and drops them.
    first, *others = (catalogue.events[event.text].properties for event in events)
    shared = {name: kind for name, kind in first.items() if all(other.get(name) == kind for other in others)}
    return compile_condition(text, Scope(event=shared), problems)

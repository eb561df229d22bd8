"""Records to features."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import pairwise

from orchestrator.conditions import Condition
from orchestrator.definitions.catalogue import Catalogue
from orchestrator.definitions.expressions import Declared, Scope, compile_condition
from orchestrator.definitions.nodes import Place, Problems, Scalar, did_you_mean
from orchestrator.definitions.records import Property, Record, Word, clean
from orchestrator.definitions.values import PARSERS, TYPE_WORDS
from orchestrator.events import FOREVER
from orchestrator.features import Feature

_UNITS = {
    "count": "number", "first_time": "instant", "last_time": "instant", "age_of": "duration", "median_gap": "duration",
    "next_order_date": "instant", "p_alive": "number", "distinct": "number", "stage": "text",
}  # fmt: skip
_MAX_KEYS = {"cart_id": 10}
"""Keys kept per customer where a hundred would outlive their use: every visit has a cart of its own."""

TOPIC = "topic:"
"""What a model begins with that is told by a topic."""

_MODELS = {"next_order_date": "pooled_gap", "p_alive": "bg_nbd"}


def build_features(name: str, record: Record, catalogue: Catalogue, problems: Problems) -> tuple[Feature, ...]:
    """Return the feature that a record describes, before it any hidden one it needs, or nothing if it is wrong.

    A quantile lacks its bands: `build_bands` finds them when the feature it goes by is known.
    """
    if record.kind.head == "age_of":
        return _age_of(name, record, catalogue, problems)
    if record.kind.head == "quantile":
        return _quantile(name, record, problems)
    mark = len(problems.found)
    kind = record.kind.head
    if kind == "predict":
        predicted, model = record.words("predict"), record.get("model", Word)
        kind = predicted[0].text if predicted else "next_order_date"
        if model is not None and model.text.startswith(TOPIC):
            return _told(name, kind, model, record, catalogue, problems)
        _check_prediction(name, kind, record, problems)
    events = record.words("from" if kind in ("next_order_date", "p_alive", "distinct", "stage") else kind)
    taken = record.values.get(kind)
    field = unit = None
    if isinstance(taken, Property):
        events = (Word(taken.event, taken.place),)
        field, unit = taken.name, taken.type
        _check_type(kind, taken, problems)
    if kind == "stage":
        _check_stages(record.words("stage"), record.at("stage"), problems)
    key = check_key(record, events, catalogue, problems, field="distinct" if kind == "distinct" else "key")
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
        min_samples=record.get("min_samples", int) or (2 if kind == "next_order_date" else 0),
        otherwise=otherwise if isinstance(otherwise, int) else None,
        unit=unit or _UNITS[kind],
        max_keys=100 if kind == "distinct" else _MAX_KEYS.get(key or "", 100),
    )
    if kind != "stage":
        return (feature,)
    hidden = replace(feature, name=f"{name}.of", kind="median_gap", unit="duration")
    stages = tuple((stage, 0) for stage in record.texts("stage"))
    return (hidden, Feature(name=name, kind="stage", of=hidden.name, unit="text", bands=stages))


def _told(
    name: str, kind: str, model: Word, record: Record, catalogue: Catalogue, problems: Problems
) -> tuple[Feature, ...]:
    """Return a prediction that a topic tells: the newest value of the one event there that has it."""
    mark = len(problems.found)
    topic, unit = model.text.removeprefix(TOPIC), _UNITS[kind]
    tell = [e for e in catalogue.events.values() if e.topic == topic and e.properties.get(kind) == unit]
    if len(tell) != 1:
        saw = "no event" if not tell else f"more than one event ({', '.join(event.name for event in tell)})"
        problems.error(
            model.place, "E044", f"{saw} of {topic} has a property '{kind}' that is {TYPE_WORDS[unit]}, it takes one"
        )
    for field in ("min_samples", "else", "where", *(["key"] if kind == "p_alive" else [])):
        if field in record.places:
            problems.error(record.places[field], "E015", f"field '{field}' does not go with 'model: {model.text}'")
    if kind == "next_order_date" and "key" not in record.places:
        problems.error(record.place, "E011", f"feature '{name}' has no 'key', write it like key: product_family")
    key = check_key(record, [Word(event.name, model.place) for event in tell[:1]], catalogue, problems)
    if not record.sound or not clean(problems, mark):
        return ()
    return (Feature(name=name, kind="latest", events=(tell[0].name,), field=kind, key=key, unit=unit),)


def _check_stages(stages: Iterable[Word], place: Place, problems: Problems) -> None:
    seen: set[str] = set()
    for stage in stages:
        if stage.text in seen:
            problems.error(stage.place, "E047", f"stage '{stage.text}' is listed twice")
        seen.add(stage.text)
    if seen and "active" not in seen:
        problems.error(place, "E011", "the stages have no 'active', which all others would be")


def _check_prediction(name: str, kind: str, record: Record, problems: Problems) -> None:
    if kind == "next_order_date":
        if "key" not in record.places:
            problems.error(
                record.place, "E011", f"feature '{name}' has no 'key', write it like key: product_family"
            )  # fmt: skip
        elif record.texts("key") == ("category",) and "else" in record.places:
            problems.error(record.places["else"], "E015", "field 'else' does not go with 'key: category'")
    else:
        for field in ("key", "min_samples", "else"):
            if field in record.places:
                problems.error(record.places[field], "E015", f"field '{field}' does not go with 'predict: {kind}'")
    model = record.get("model", Word)
    if model is not None and model.text != _MODELS[kind]:
        problems.error(model.place, "E051", f"'model' of {kind} is {_MODELS[kind]}, not {model.text}")


def _quantile(name: str, record: Record, problems: Problems) -> tuple[Feature, ...]:
    bands = record.get("bands", dict)
    if not record.sound or bands is None:
        return ()
    mark = len(problems.found)
    if 0 not in bands.values():
        problems.error(record.at("bands"), "E051", "no band begins at 0, so that some customers would be in none")
    elif len(set(bands.values())) < len(bands):
        problems.error(record.at("bands"), "E051", "two bands begin at the same share")
    if not clean(problems, mark):
        return ()
    highest_first = sorted(bands, key=lambda band: -bands[band])
    of = record.need("quantile", Word).text
    names = tuple((band, None) for band in highest_first)
    shares = tuple(bands[band] for band in highest_first)
    return (Feature(name=name, kind="quantile", of=of, unit="text", bands=names, shares=shares),)


def build_bands(feature: Feature, of: Feature, record: Record, problems: Problems) -> Feature:
    """Return a quantile with its cut points, in the unit of the feature that it goes by; None where a snapshot must."""
    word = record.need("quantile", Word)
    if of.unit not in CUT_PARSERS or of.kind == "quantile":
        saw = TYPE_WORDS[of.unit]
        problems.error(
            word.place, "E044", f"'quantile' takes a number, money or a length of time, this feature is {saw}"
        )
        return feature
    if of.key is not None and of.kind != "distinct":
        problems.error(word.place, "E044", f"'quantile' takes one value per customer, not one per {of.key}")
        return feature
    *upper, (lowest, _) = feature.bands
    if "cut_points" not in record.places:
        problems.warn(
            word.place,
            "W018",
            f"'{feature.name}' is unknown until there is a snapshot: orchestrator snapshots publish, or give it "
            "'cut_points' to begin with",
        )
        return replace(feature, bands=(*upper, (lowest, -FOREVER)))
    cuts = record.get("cut_points", dict) or {}
    place = record.at("cut_points")
    for band in cuts:
        if band not in dict(upper):
            near = did_you_mean(band, dict(upper))
            says = "needs no cut point: it is below all others" if band == lowest else f"is no band{near}"
            problems.error(cuts[band].place, "E044", f"'{band}' {says}")
    missing = [band for band, _ in upper if band not in cuts]
    if missing:
        problems.error(place, "E011", f"'cut_points' has no '{missing[0]}'")
        return feature
    least = [(band, CUT_PARSERS[of.unit](cuts[band], problems)) for band, _ in upper]
    known = [(band, cut) for band, cut in least if isinstance(cut, int)]
    if len(known) == len(least) and any(above[1] <= below[1] for above, below in pairwise(known)):
        problems.error(place, "E051", "'cut_points' do not fall from the highest band to the lowest")
    return replace(feature, bands=(*known, (lowest, -FOREVER)))


CUT_PARSERS = {"number": PARSERS["count"], "money": PARSERS["money"], "duration": PARSERS["duration"]}
"""How a cut point is read, by the unit of what customers are ordered by."""


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


def check_key(
    record: Record, events: Iterable[Word], catalogue: Catalogue, problems: Problems, *, field: str = "key"
) -> str | None:
    """Return what a record is kept per, after checking that its events can say so."""
    words = record.words(field)
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


def declare(feature: Feature) -> Declared:
    """Return what others must know of a feature."""
    key = None if feature.kind == "distinct" else feature.key
    return Declared(feature.unit, key, feature.kind, tuple(band for band, _ in feature.bands))


def share_times(features: Mapping[str, Feature]) -> dict[str, Feature]:
    """Return the features without what is kept twice: a stage looks at the times that a rhythm keeps anyway."""
    kept = dict(features)
    rhythms = [f for f in features.values() if f.kind == "median_gap" and f.key is None and "." not in f.name]
    for stage in [feature for feature in features.values() if feature.kind == "stage"]:
        hidden = features[stage.of or ""]
        same = next((f.name for f in rhythms if f.events == hidden.events and f.where == hidden.where), None)
        if same is not None:
            kept[stage.name] = replace(stage, of=same)
            del kept[hidden.name]
    return kept

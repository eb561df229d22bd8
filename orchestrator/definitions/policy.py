"""Records to the policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.arbitration.policy import Cap, Policy, QuietHours
from orchestrator.definitions.expressions import ANY, Declared
from orchestrator.definitions.nodes import Problems, did_you_mean
from orchestrator.definitions.records import Record, Word, clean
from orchestrator.definitions.values import TYPE_WORDS
from orchestrator.events import DAY

METHODS = ("priority", "expected_value")
"""The ways to choose, in the order in which customers are dealt out to them."""

WHOLE = 10_000
"""All customers, in basis points."""

MAX_BY, MAX_SPLIT_ON = 6, 20
"""How many features and segments tell customers apart, and among how many sub-personas are looked for."""

_DEFAULTS = Policy()
_ALWAYS = ("method", "by", "split_on", "collect_for")
_WORDS = ("text", "truth")
_SPLITS = ("number", "money", "duration", *_WORDS)


def build_policy(
    sections: Mapping[str, Record], features: Mapping[str, Declared], segments: frozenset[str], problems: Problems
) -> Policy | None:
    """Return the policy that the sections describe, or None if anything is wrong with one; only `holdout` may lack."""
    mark = len(problems.found)
    _check_choose(sections["choose"], features, segments, problems)
    _check_interrupt(sections, problems)
    _check_quiet_hours(sections["contact"].get("quiet_hours", Record), problems)
    _check_time(sections["time"], problems)
    if not clean(problems, mark) or not all(section.sound for section in sections.values()):
        return None
    program, contact, time, holdout = (sections.get(name) for name in ("program", "contact", "time", "holdout"))
    assert program is not None and contact is not None and time is not None
    choose, interrupt = sections["choose"], sections["one_at_a_time"].values["interrupt"]
    zone, quiet = contact.get("no_time_zone", Record), contact.get("quiet_hours", Record)
    return Policy(
        currency=program.need("currency", str),
        metric=program.need("metric", Word).text,
        assumed_margin_bp=program.need("assumed_margin", int),
        amend_for=program.need("amend_for", int),
        rest=sections["one_at_a_time"].need("rest", int),
        interrupt_above=interrupt.need("when_value_exceeds", int) / 1000 if isinstance(interrupt, Record) else 0.0,
        **_choice(choose),
        holdout_bp=0 if holdout is None else holdout.need("share", int),
        holdout_rotate=_DEFAULTS.holdout_rotate if holdout is None else holdout.need("rotate", Word).text,
        caps=tuple(_cap(cap) for cap in contact.records("caps")),
        quiet_hours=None if quiet is None else QuietHours(quiet.need("from", int), quiet.need("to", int)),
        zone_fallback=_DEFAULTS.zone_fallback if zone is None else zone.need("else", str),
        use_country_zone=zone is None or zone.get("use", Word) is not None,
        disorder=time.get("disorder", dict) or {},
        accept_late=time.get("accept_late", dict) or {},
        never_act_older_than=time.need("never_act_on_moments_older_than", int),
    )


def _choice(section: Record) -> dict[str, Any]:
    """Return the fields of a policy that say how one is chosen."""
    method, follow_ons, explore = section.values["method"], section.get("include_follow_ons", Record), _explore(section)
    shares = method.need("compare", Record) if isinstance(method, Record) else None
    return {
        "method": method.text if isinstance(method, Word) else "compare",
        "compare": {} if shares is None else {name: shares.need(name, int) for name in METHODS},
        "collect_for": section.need("collect_for", int),
        "by": section.texts("by"),
        "split_on": section.texts("split_on"),
        "horizon": section.need("horizon", int) * 365 * DAY // 12,
        "follow_on_depth": _DEFAULTS.follow_on_depth if follow_ons is None else follow_ons.need("depth", int),
        "follow_on_discount": (
            _DEFAULTS.follow_on_discount if follow_ons is None else follow_ons.need("discount", int) / 1000
        ),
        "none_is_an_option": section.need("none_is_an_option", bool),
        "look_ahead": section.need("look_ahead", bool),
        "explore_start_bp": explore[0],
        "explore_floor_bp": explore[1],
        "unsubscribe_cost": section.need("unsubscribe_costs", int),
        "half_life": section.need("half_life", int),
    }


def _explore(section: Record) -> tuple[int, int]:
    explore = section.get("explore", Record)
    if explore is None:
        return _DEFAULTS.explore_start_bp, _DEFAULTS.explore_floor_bp
    return explore.need("start", int), explore.need("floor", int)


def _cap(record: Record) -> Cap:
    channel = record.get("channel", Word)
    return Cap(record.need("max", int), record.need("per", int), None if channel is None else channel.text)


def _check_choose(
    section: Record, features: Mapping[str, Declared], segments: frozenset[str], problems: Problems
) -> None:
    method, explore = section.values.get("method"), section.get("explore", Record)
    if isinstance(method, Word) and method.text == "priority":
        for name, place in section.places.items():
            if name not in _ALWAYS and name in section.values:
                problems.warn(place, "W003", f"'{name}' has no effect under `method: priority`")
    shares = method.get("compare", Record) if isinstance(method, Record) else None
    if shares is not None and shares.sound and sum(shares.need(name, int) for name in METHODS) != WHOLE:
        problems.error(shares.place, "E051", "the shares of 'compare' must be 100% together")
    if explore is not None and explore.sound and explore.need("floor", int) > explore.need("start", int):
        problems.error(explore.at("floor"), "E051", "'floor' is larger than 'start'")
    _check_names(section, "by", MAX_BY, features, segments, problems)
    _check_names(section, "split_on", MAX_SPLIT_ON, features, frozenset(), problems)


def _check_names(
    section: Record,
    field: str,
    most: int,
    features: Mapping[str, Declared],
    segments: frozenset[str],
    problems: Problems,
) -> None:
    """Check features, and segments where they may stand, that customers are told apart by."""
    words, seen = section.words(field), set[str]()
    if len(words) > most:
        problems.error(words[most].place, "E016", f"'{field}' names {len(words)}, it must be at most {most}")
    for word in words:
        feature = features.get(word.text)
        if word.text in seen:
            problems.error(word.place, "E047", f"'{word.text}' is named twice")
        elif feature is None and word.text not in segments:
            kinds = "feature or segment" if segments else "feature"
            near = did_you_mean(word.text, (*features, *segments))
            problems.error(word.place, "E043", f"unknown {kinds} '{word.text}'{near}")
        elif feature is not None and word.text in segments:
            problems.error(word.place, "E047", f"'{word.text}' is the name of a feature and of a segment")
        elif feature is not None and feature.key is not None:
            said = (
                f"feature '{word.text}' has a value for each {feature.key}, customers have many: name one without key"
            )
            problems.error(word.place, "E044", said)
        elif feature is not None and feature.type not in (ANY, *(_WORDS if field == "by" else _SPLITS)):
            said = (
                "hardly any two customers share it: name a tier, a stage or a segment"
                if field == "by"
                else "it goes on changing by itself: name its age"
            )
            problems.error(word.place, "E044", f"feature '{word.text}' is {TYPE_WORDS[feature.type]}, {said}")
        seen.add(word.text)


def _check_interrupt(sections: Mapping[str, Record], problems: Problems) -> None:
    section, method = sections["one_at_a_time"], sections["choose"].values.get("method")
    if isinstance(section.values.get("interrupt"), Record) and isinstance(method, Word) and method.text == "priority":
        said = "'interrupt' compares expected values, choose by them: method: expected_value"
        problems.error(section.at("interrupt"), "E051", said)


def _check_quiet_hours(quiet: Record | None, problems: Problems) -> None:
    start, end = (None, None) if quiet is None else (quiet.get("from", int), quiet.get("to", int))
    if quiet is not None and start is not None and start == end:
        problems.error(quiet.at("to"), "E051", "quiet hours that end when they begin leave no hour of quiet")


def _check_time(section: Record, problems: Problems) -> None:
    disorder: Mapping[str, int] = section.get("disorder", dict) or {}
    late: Mapping[str, int] = section.get("accept_late", dict) or {}
    for topic in (*disorder, *(topic for topic in late if topic not in disorder)):
        wait = disorder.get(topic, _DEFAULTS.default_disorder)
        if late.get(topic, _DEFAULTS.default_accept_late) < wait:
            place = section.at("accept_late" if topic in late else "disorder")
            problems.error(place, "E051", f"'{topic}' would accept late events for less than timers wait for them")

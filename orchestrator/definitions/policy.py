"""Records to the policy."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.arbitration.policy import Cap, Policy, QuietHours
from orchestrator.definitions.nodes import Problems
from orchestrator.definitions.records import Record, Word, clean

_DEFAULTS = Policy()


def build_policy(sections: Mapping[str, Record], problems: Problems) -> Policy | None:
    """Return the policy that the sections describe, or None if anything is wrong with one; only `holdout` may lack."""
    mark = len(problems.found)
    _check_choose(sections["choose"], problems)
    _check_quiet_hours(sections["contact"].get("quiet_hours", Record), problems)
    _check_time(sections["time"], problems)
    if not clean(problems, mark) or not all(section.sound for section in sections.values()):
        return None
    program, contact, time, holdout = (sections.get(name) for name in ("program", "contact", "time", "holdout"))
    assert program is not None and contact is not None and time is not None
    zone, quiet = contact.get("no_time_zone", Record), contact.get("quiet_hours", Record)
    return Policy(
        currency=program.need("currency", str),
        metric=program.need("metric", Word).text,
        assumed_margin_bp=program.need("assumed_margin", int),
        amend_for=program.need("amend_for", int),
        rest=sections["one_at_a_time"].need("rest", int),
        collect_for=sections["choose"].need("collect_for", int),
        method=sections["choose"].need("method", Word).text,
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


def _cap(record: Record) -> Cap:
    channel = record.get("channel", Word)
    return Cap(record.need("max", int), record.need("per", int), None if channel is None else channel.text)


def _check_choose(section: Record, problems: Problems) -> None:
    for name, place in section.places.items():
        if name not in ("method", "collect_for") and name in section.values:
            problems.warn(place, "W003", f"'{name}' has no effect under `method: priority`")


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

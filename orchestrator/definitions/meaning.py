"""What is wrong with definitions beyond their form: what can never happen, never matters, or is there twice.

Each check is a function of what was defined and yields what it found; none of them guesses.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace

from orchestrator.arbitration.campaign import Campaign
from orchestrator.arbitration.policy import Cap
from orchestrator.conditions import And, Condition, Expression, InSegment, Not, Or, readable
from orchestrator.definitions.footprint import LARGE, footprint
from orchestrator.definitions.nodes import Place, Problem, did_you_mean
from orchestrator.definitions.possible import Knowledge
from orchestrator.features import Feature
from orchestrator.moments.rules import Calendar, Membership, Moment, Total
from orchestrator.program import Definitions, Program

Where = Callable[..., Place]
"""Tells where something stands: `where("moment", "abandoned_cart", "only_if")`, or where it begins."""

DAY_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True)
class Scene:
    """What a check looks at."""

    program: Program
    where: Where
    knowledge: Knowledge

    @property
    def definitions(self) -> Definitions:
        """What was written."""
        return self.program.definitions

    def wait(self, name: str) -> int:
        """Return how long a moment waits for stragglers, milliseconds."""
        moment = self.program.find(name)
        return 0 if moment is None else self.program.disorder[moment.name]

    def answering(self, moment: str) -> list[Campaign]:
        """Return the campaigns that answer a moment."""
        return [campaign for campaign in self.definitions.campaigns.values() if moment in campaign.when]


def check(program: Program, where: Where) -> Iterator[Problem]:
    """Yield everything that definitions mean and nobody can have meant."""
    written = program.definitions
    scene = Scene(program, where, Knowledge(written.features, written.segments))
    for one in CHECKS:
        yield from one(scene)


# --- conditions -------------------------------------------------------------------------------------------------------


def conditions(scene: Scene) -> Iterator[Problem]:
    """Yield conditions that are never true, and those that are never false."""
    for place, condition in _conditions(scene):
        why = scene.knowledge.impossible(condition.expression)
        if why is not None:
            yield Problem(place, "E060", f"this is never true: {why}")
        elif scene.knowledge.never_false(condition.expression):
            yield _warning(place, "W010", "this is never false, so that it keeps nobody out")


def moments_never_true(scene: Scene) -> Iterator[Problem]:
    """Yield moments of a segment whose condition rules out what the segment asks for."""
    for name, moment in scene.definitions.moments.items():
        if not isinstance(moment.shape, Membership) or moment.only_if is None:
            continue
        if scene.knowledge.impossible(moment.only_if.expression) is None:
            why = scene.knowledge.impossible(*_needed(moment))
            if why is not None:
                word = "in" if moment.shape.entered else "not in"
                place = scene.where("moment", name, "only_if")
                yield Problem(place, "E060", f"this is never true of who is {word} '{moment.shape.segment}': {why}")


def campaigns_never_true(scene: Scene) -> Iterator[Problem]:
    """Yield campaigns whose condition rules out what one of their moments asks for."""
    for name, campaign in scene.definitions.campaigns.items():
        if campaign.only_if is None or scene.knowledge.impossible(campaign.only_if.expression) is not None:
            continue
        for moment in campaign.when:
            needed = _needed(scene.definitions.moments[moment])
            if scene.knowledge.impossible(*needed) is not None:
                continue
            why = scene.knowledge.impossible(*needed, campaign.only_if.expression)
            if why is not None:
                place = scene.where("campaign", name, "only_if")
                yield Problem(place, "E060", f"this is never true when '{moment}' is open: {why}")


def _needed(moment: Moment) -> list[Expression]:
    """Return what is true while a moment is open."""
    needed = [] if moment.only_if is None else [moment.only_if.expression]
    if isinstance(moment.shape, Membership):
        inside = InSegment(moment.shape.segment)
        return [inside if moment.shape.entered else Not(inside), *needed]
    return needed


def _conditions(scene: Scene) -> Iterator[tuple[Place, Condition]]:
    written = scene.definitions
    for what, owners in (("feature", written.features), ("segment", written.segments), ("moment", written.moments),
                         ("campaign", written.campaigns)):  # fmt: skip
        for name, owner in owners.items():
            if "." not in name:  # a hidden feature's condition stands where it was written
                yield from ((scene.where(what, name, *path), condition) for path, condition in _found(owner))


def _found(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Condition]]:
    """Yield the conditions inside a value, each with the fields that lead to it as they are written."""
    if isinstance(value, Condition):
        yield path, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _found(inner, (*path, name))
    elif isinstance(value, Total):
        if value.where is not None:
            yield ("count" if value.field is None else "sum", "where"), value.where
    elif is_dataclass(value):
        for field in fields(value):
            yield from _found(getattr(value, field.name), (*path, _WRITTEN.get(field.name, field.name)))


_WRITTEN = {"condition": "is"}
"""Fields that are called otherwise where they are written."""


# --- moments ----------------------------------------------------------------------------------------------------------


def moments_over_before_they_open(scene: Scene) -> Iterator[Problem]:
    """Yield moments that are stale, or too old, by the time that stragglers have been waited for."""
    too_old = scene.definitions.policy.never_act_older_than
    for name, moment in scene.definitions.moments.items():
        wait = scene.wait(name)
        says = f"it opens only after {_long(wait)}, when stragglers have been waited for ('disorder')"
        if moment.lasts is not None and moment.lasts <= wait:
            yield Problem(scene.where("moment", name, "lasts"), "E061", f"'{name}' is never open: {says}")
        elif too_old < wait:
            place = scene.where("section", "time", "never_act_on_moments_older_than")
            yield Problem(place, "E061", f"'{name}' is never acted on: {says}")


def moments_in_quiet_hours(scene: Scene) -> Iterator[Problem]:
    """Yield dates of the calendar whose window lies wholly in the quiet hours."""
    quiet = scene.definitions.policy.quiet_hours
    for name, moment in scene.definitions.moments.items() if quiet is not None else ():
        if not isinstance(moment.shape, Calendar) or all(campaign.exempt for campaign in scene.answering(name)):
            continue
        length = (moment.shape.end - moment.shape.start + 1) * DAY_MINUTES - moment.shape.minute
        if moment.lasts is not None:
            length = min(length, moment.lasts // 60_000)
        assert quiet is not None
        into = (moment.shape.minute - quiet.start) % DAY_MINUTES
        if into + length <= (quiet.end - quiet.start) % DAY_MINUTES:
            place = scene.where("moment", name, "calendar", "at")
            span = f"from {_clock(moment.shape.minute)} for {_long(length * 60_000)}"
            hours = f"{_clock(quiet.start)} to {_clock(quiet.end)}"
            yield Problem(place, "E061", f"'{name}' is open {span}, and the quiet hours are {hours}: nothing is sent")


def moments_the_same(scene: Scene) -> Iterator[Problem]:
    """Yield moments that are open whenever another is: the same in all but their name."""
    first: dict[Hashable, str] = {}
    for name, moment in scene.definitions.moments.items():
        same = first.setdefault(_essence(moment, scene.definitions.features), name)
        if same != name:
            message = f"'{name}' opens and ends whenever '{same}' does: let campaigns answer one of them"
            yield _warning(scene.where("moment", name), "W011", message)


def _essence(moment: Moment, features: Mapping[str, Feature]) -> Hashable:
    shape = moment.shape
    if isinstance(shape, Total):  # what it counts by is a feature of its own
        counted = _bare(features[shape.feature])
        shape = replace(shape, feature="", where=_untexted(shape.where))
    else:
        counted = None
    only_if = None if moment.only_if is None else _plain(moment.only_if.expression)
    return replace(moment, name="", say="", shape=shape, only_if=None), only_if, counted


def moments_that_come_too_soon(scene: Scene) -> Iterator[Problem]:
    """Yield spacings that only lead back into the window of the campaign that answered before."""
    for name, moment in scene.definitions.moments.items():
        windows = [one.measure.window for one in scene.answering(name) if not one.exempt]
        if not moment.at_most_every or moment.lasts is None or not windows:
            continue
        if moment.at_most_every + moment.lasts <= min(windows):
            message = (
                f"'{name}' comes again after {_long(moment.at_most_every)} and lasts {_long(moment.lasts)}, while who "
                f"was answered is held for {_long(min(windows))} ('measure'): nothing can come of it"
            )
            yield _warning(scene.where("moment", name, "again"), "W012", message)


# --- campaigns --------------------------------------------------------------------------------------------------------


def campaigns_always_outranked(scene: Scene) -> Iterator[Problem]:
    """Yield campaigns that never win, for another is possible whenever they are and goes before them."""
    if scene.definitions.policy.method != "priority":
        return
    campaigns = [one for one in scene.definitions.campaigns.values() if not one.exempt]
    rivals: dict[str, list[Campaign]] = {}
    for one in campaigns:
        for moment in one.when:
            rivals.setdefault(moment, []).append(one)
    for one in campaigns:
        better = [rival for rival in rivals.get(one.when[0], ()) if _always_before(rival, one)] if one.when else []
        if better:
            message = (
                f"'{one.name}' is never chosen: '{better[0].name}' answers the same with priority "
                f"{better[0].priority}, and nothing keeps it back"
            )
            yield _warning(scene.where("campaign", one.name, "priority"), "W013", message)


_HARMLESS = {"name", "when", "send", "measure", "control_bp", "control_floor_bp", "priority", "cost", "only_if",
             "leads_to", "series", "stop_when"}  # fmt: skip
"""What may differ between two campaigns without keeping either back; anything else, also what is yet to come, may."""


def _always_before(rival: Campaign, one: Campaign) -> bool:
    same_way = (rival.send.channel, rival.send.purpose) == (one.send.channel, one.send.purpose)
    if rival.priority <= one.priority or not same_way or not set(one.when) <= set(rival.when):
        return False
    if rival.only_if is not None and (one.only_if is None or _untexted(rival.only_if) != _untexted(one.only_if)):
        return False
    return all(getattr(rival, field.name) == field.default for field in fields(Campaign) if field.name not in _HARMLESS)


# --- policy -----------------------------------------------------------------------------------------------------------


def caps_without_effect(scene: Scene) -> Iterator[Problem]:
    """Yield caps that another makes needless, and those of a channel that nobody sends through."""
    caps = scene.definitions.policy.caps
    channels = {send.channel for one in scene.definitions.campaigns.values() for send in one.sends}
    for number, cap in enumerate(caps):
        place = scene.where("section", "contact", "caps", number)
        if cap.channel is not None and channels and cap.channel not in channels:
            near = did_you_mean(cap.channel, channels)
            yield _warning(place, "W014", f"no campaign sends through '{cap.channel}'{near}: this cap keeps nothing")
            continue
        stricter = [other for other in caps if _never_reached(cap, other)]
        if stricter:
            message = f"{_cap(cap)} is never reached: {_cap(stricter[0])} is stricter"
            yield _warning(place, "W014", message)


def quiet_hours_all_day(scene: Scene) -> Iterator[Problem]:
    """Yield quiet hours that leave less than an hour of the day."""
    quiet = scene.definitions.policy.quiet_hours
    left = DAY_MINUTES if quiet is None else (quiet.start - quiet.end) % DAY_MINUTES
    if left < 60:
        place = scene.where("section", "contact", "quiet_hours")
        yield _warning(place, "W017", f"the quiet hours leave {_long(left * 60_000)} of the day for all messages")


def _never_reached(cap: Cap, other: Cap) -> bool:
    """Return whether a cap is never reached because of another, which counts at least the same messages."""
    return cap != other and other.channel in (None, cap.channel) and other.per >= cap.per and other.max <= cap.max


def _cap(cap: Cap) -> str:
    through = "" if cap.channel is None else f" through {cap.channel}"
    return f"{cap.max} per {_long(cap.per)}{through}"


# --- state -----------------------------------------------------------------------------------------------------------


def state_without_end(scene: Scene) -> Iterator[Problem]:
    """Yield what may grow beyond any reason for one customer."""
    for cost in footprint(scene.definitions):
        if cost.at_most > LARGE and cost.what in ("feature", "moment") and "." not in cost.name:
            message = (
                f"'{cost.name}' may come to {-(-cost.at_most // 1_000)} KB per customer: with a 'key' and 'over' "
                "every key keeps its own spans of time; leave one of them out"
            )
            yield _warning(scene.where(cost.what, cost.name), "W016", message)


# --- the same twice ---------------------------------------------------------------------------------------------------


def features_the_same(scene: Scene) -> Iterator[Problem]:
    """Yield features that keep what another keeps already."""
    first: dict[Hashable, str] = {}
    written = {name: feature for name, feature in scene.definitions.features.items() if "." not in name}
    for name, feature in written.items():
        of = scene.definitions.features.get(feature.of or "")
        same = first.setdefault((_bare(feature), None if of is None else _bare(of)), name)
        if same != name:
            place = scene.where("feature", name)
            yield _warning(place, "W015", f"'{name}' keeps the same as '{same}': one of them is enough")


def segments_the_same(scene: Scene) -> Iterator[Problem]:
    """Yield segments of the same customers as another."""
    first: dict[Expression, str] = {}
    for name, segment in scene.definitions.segments.items():
        same = first.setdefault(_plain(segment.condition.expression), name)
        if same != name:
            place = scene.where("segment", name)
            yield _warning(place, "W015", f"'{name}' holds the same customers as '{same}': one of them is enough")


def _bare(feature: Feature) -> Feature:
    of = feature.of if feature.of is not None and "." not in feature.of else None
    return replace(feature, name="", of=of, where=_untexted(feature.where))


CHECKS: tuple[Callable[[Scene], Iterator[Problem]], ...] = (
    conditions,
    moments_never_true,
    campaigns_never_true,
    moments_over_before_they_open,
    moments_in_quiet_hours,
    moments_the_same,
    moments_that_come_too_soon,
    campaigns_always_outranked,
    caps_without_effect,
    quiet_hours_all_day,
    state_without_end,
    features_the_same,
    segments_the_same,
)


# --- words ------------------------------------------------------------------------------------------------------------


def _warning(place: Place, code: str, message: str) -> Problem:
    return Problem(place, code, message, "warning")


def _untexted(condition: Condition | None) -> Condition | None:
    """Return a condition without the way it was written."""
    return None if condition is None else Condition("", _plain(condition.expression))


def _plain(expression: Expression) -> Expression:
    """Return an expression whose parts stand in one order, whatever the order in which they were written."""
    if isinstance(expression, And | Or):
        return type(expression)(tuple(sorted(map(_plain, expression.operands), key=repr)))
    return Not(_plain(expression.operand)) if isinstance(expression, Not) else expression


def _long(milliseconds: int) -> str:
    return readable(milliseconds, "duration")


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"

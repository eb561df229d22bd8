"""`Program`: definitions compiled once and frozen; an event finds there only what it can change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from orchestrator.arbitration.campaign import Campaign
from orchestrator.arbitration.policy import Policy
from orchestrator.conditions import Condition, InSegment, Read, walk
from orchestrator.events import CLICKED, DAY, ERASED, FOREVER, ORDERED, PROFILE, SENT, STOCK, UNSUBSCRIBED
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
    Schedule,
    Sequence,
    Silence,
    Total,
)
from orchestrator.sharing import file_once


@dataclass(frozen=True, slots=True)
class Segment:
    """A named group over features, always current."""

    name: str
    say: str
    condition: Condition


@dataclass(frozen=True, slots=True)
class Definitions:
    """Everything marketers wrote, checked; `version` is a hash of the text, `topics` has each event's topic."""

    version: str
    features: Mapping[str, Feature] = field(default_factory=dict)
    segments: Mapping[str, Segment] = field(default_factory=dict)
    moments: Mapping[str, Moment] = field(default_factory=dict)
    campaigns: Mapping[str, Campaign] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)
    topics: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Role:
    """What one event name means to one moment; `ends` are the matches that end an instance."""

    moment: Moment
    disorder: int
    starts: bool
    restarts: bool
    ends: tuple[EventMatch, ...]
    """Matches whose event ends an instance, before it opens or after."""


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Everything an event of one name can change."""

    folds: tuple[Feature, ...] = ()
    roles: tuple[Role, ...] = ()
    watched: tuple[Moment, ...] = ()
    """Moments whose condition asks for something that such an event changes."""
    exempt: tuple[Campaign, ...] = ()
    """Transactional and legal campaigns that answer such an event directly."""
    follows: bool = False
    """Whether such an event may end a series, lead out of an audience, or make one of its steps pointless."""


MEASURED: Final = frozenset({"order.placed", "order.cancelled", "order.returned", SENT, UNSUBSCRIBED})
"""Events that a running or closed measurement window counts."""

BUILT_IN: Final = MEASURED | {PROFILE, ERASED}
"""Events that the engine itself understands: profiles, measurement, caps and consent."""


ADVANCED = "advanced"
"""What is asked of the past for a stage of a journey: a response, in the control group an order that was kept."""

STAGE_LASTS = 90 * DAY
"""How long a campaign may still be followed by another, where none says."""


class Program:
    """Definitions, ready to run: dispatch tables by event name, campaigns by the moment they answer."""

    def __init__(self, definitions: Definitions, topics: Mapping[str, str] | None = None) -> None:
        """Compile definitions; `topics` names the topic of each event where the definitions do not."""
        topics = definitions.topics if topics is None else topics
        self.definitions = definitions
        self.version = definitions.version
        self.policy = definitions.policy
        self.segments = definitions.segments
        segments = {name: segment.condition for name, segment in definitions.segments.items()}
        self.filed = file_once(definitions.features, segments, definitions.moments)
        self.features = self.filed.features
        self.moments = self.filed.moments
        self._written = {
            one.name: name for name, one in sorted(self.features.items(), reverse=True) if name != one.name
        }
        self.campaigns = definitions.campaigns
        self._topics = {STOCK: "products", **topics}
        late = definitions.policy.accept_late
        self._late = {event: late[topic] for event, topic in self._topics.items() if topic in late}
        self.disorder = {moment.name: self._disorder_of(moment) for moment in self.moments.values()}
        """How long an instance of a moment waits beyond its due instant for stragglers, milliseconds."""
        self.disorder |= {name: self.disorder[filed] for name, filed in self.filed.filed_as.items()}
        policy = self.policy
        self.order_disorder = policy.disorder.get(topics.get("order.placed", ""), policy.default_disorder)
        """How long a measurement window waits beyond its end for stragglers, milliseconds."""
        self.order = {name: place for place, name in enumerate(self.moments)}
        asked: dict[str, tuple[Campaign, ...]] = {}
        for _, campaign in sorted(self.campaigns.items()):
            for name in campaign.when:
                asked[name] = (*asked.get(name, ()), campaign)
        self.answers = {
            name: tuple((replace(moment, name=own), asked.get(own, ())) for own in self.names_of(name))
            for name, moment in self.moments.items()
        }
        """Who may answer each moment, under each of its names."""
        self.unanswered = frozenset(definitions.moments) - set(asked)
        """The names of moments that no campaign asks for."""
        self.calendars = tuple(m for m in self.moments.values() if isinstance(m.shape, Calendar))
        self.schedules = tuple(m for m in self.moments.values() if isinstance(m.shape, Schedule))
        shapes = ((moment, moment.shape) for moment in self.moments.values())
        self.inclusive = tuple(m for m, shape in shapes if isinstance(shape, Membership) and shape.include_per_hour)
        """Moments that who was in a segment before comes into."""
        self.watched = tuple(m for m in self.moments.values() if isinstance(m.shape, During | Membership))
        """Moments that are looked at whenever something changes that they ask for."""
        self.followers: dict[str, tuple[Moment, ...]] = {}
        """The moments that live during another, by that one's name."""
        for moment in self.watched:
            if isinstance(moment.shape, During):
                others = self.followers.get(moment.shape.moment, ())
                self.followers[moment.shape.moment] = (*others, moment)
        self.stock_moments = tuple(moment for moment in self.moments.values() if _waits_for_stock(moment))
        """Moments that a product's stock moves."""
        self.stock_disorder = policy.disorder.get("products", policy.default_disorder) if self.stock_moments else 0
        """How long what a product's stock moves waits for it to be told, milliseconds."""
        self._asks = {moment.name: self._events_asked(moment) for moment in self.watched}
        self.shared_caps = tuple((c.name, c.cap) for c in self.campaigns.values() if c.cap is not None)
        self.learns = policy.learns
        """Whether decisions tell what learning asks for."""
        self.stages = self._stages() if self.learns else {}
        """Campaigns that lead to others, and for how long after their decision somebody who responded may follow."""
        self.remembered = self._remembered()
        """What campaigns ask of the past: of which campaign, what must have become of it, and how long ago at most."""
        asks_for_clicks = self.learns or any(
            c.after is not None and c.after.outcome != "received" for c in self.campaigns.values()
        )
        self.measured = MEASURED | {CLICKED} if asks_for_clicks else MEASURED
        """The event names that windows count."""
        self.longest_cap = max((cap.per for cap in policy.caps), default=0)
        self.longest_late = max([*policy.accept_late.values(), policy.default_accept_late])
        self._followed = {name: _followed(campaign) for name, campaign in self.campaigns.items()}
        # Whoever is inside a pinned series may be waiting for an event that nothing published since asks for.
        self._pinned = (
            frozenset(self._topics) - {STOCK} if any(c.pins for c in self.campaigns.values()) else frozenset()
        )
        self._dispatch = {name: self._compile(name) for name in self._event_names()}
        self.relevant = frozenset(self._dispatch) | BUILT_IN | self.measured
        """The event names that can change anything; all others need not even be decoded further."""

    def dispatch(self, event: str) -> Dispatch:
        """Return what an event of this name can change."""
        return self._dispatch.get(event, _NOTHING)

    def names_of(self, moment: str) -> tuple[str, ...]:
        """Return all names of the moment that is filed under this one."""
        return self.filed.names.get(moment, (moment,))

    def written_as(self, feature: Feature) -> str:
        """Return the name that a feature was given by whoever wrote it, the first of several."""
        return self._written.get(feature.name, feature.name)

    def find(self, moment: str) -> Moment | None:
        """Return the moment of a name as it is filed, or None when there is none."""
        return self.moments.get(self.filed.filed_as.get(moment, moment))

    def accept_late(self, event: str) -> int:
        """Return how long after its time an event of this name still corrects, milliseconds."""
        if event == STOCK:
            return FOREVER  # it comes from us, when its time has come
        return self._late.get(event, self.policy.default_accept_late)

    def series_wait(self, campaign: Campaign) -> int:
        """Return how long a step of a campaign's series waits beyond its due instant for stragglers, milliseconds."""
        return max((self._topic_disorder(event) for event in _followed(campaign)), default=0)

    def _stages(self) -> dict[str, int]:
        """Return the longest `within` of the campaigns that come after each that leads to others."""
        afters = [campaign.after for campaign in self.campaigns.values() if campaign.after is not None]
        return {
            name: max((after.within for after in afters if after.campaign == name), default=STAGE_LASTS)
            for name, campaign in sorted(self.campaigns.items())
            if campaign.leads_to
        }

    def _remembered(self) -> tuple[tuple[str, str, int], ...]:
        asked = [
            (c.after.campaign, c.after.outcome, c.after.within) for c in self.campaigns.values() if c.after is not None
        ]
        asked += [(other.after, "", other.length) for c in self.campaigns.values() for other in c.exclusions]
        asked += [(name, ADVANCED, length) for name, length in self.stages.items()]
        longest: dict[tuple[str, str], int] = {}
        for campaign, outcome, length in asked:
            longest[campaign, outcome] = max(length, longest.get((campaign, outcome), 0))
        return tuple((*question, length) for question, length in longest.items())

    def _event_names(self) -> set[str]:
        names = {name for feature in self.features.values() for name in feature.events} | self._pinned
        for moment in self.moments.values():
            for match in (*_starts(moment), *self._ends(moment)):
                names.update(match.events)
            names.update(self._dated_by(moment))
        for campaign in self.campaigns.values():
            names.update(self._followed[campaign.name], *(match.events for match in campaign.on))
        return names

    def _compile(self, event: str) -> Dispatch:
        kept = {feature.name: feature for feature in self.features.values()}  # each once, whatever it is called
        folds = tuple(feature for feature in kept.values() if event in feature.events)
        roles = []
        for moment in self.moments.values():
            shape = moment.shape
            ends = tuple(match for match in self._ends(moment) if event in match.events)
            starts = restarts = isinstance(shape, Silence) and event in shape.event.events
            if isinstance(shape, Absence):
                starts = event in shape.starts_on.events
                restarts = shape.restarts_on is not None and event in shape.restarts_on.events
            elif isinstance(shape, Around | Launch):
                starts = restarts = event in self._dated_by(moment)
            elif isinstance(shape, Total | Sequence):
                starts = any(event in match.events for match in _starts(moment))
            if starts or restarts or ends:
                roles.append(Role(moment, self.disorder[moment.name], starts, restarts, ends))
        watched = tuple(moment for moment in self.watched if event in self._asks[moment.name])
        exempt = tuple(c for c in self.campaigns.values() if any(event in match.events for match in c.on))
        follows = event in self._pinned or any(event in events for events in self._followed.values())
        return Dispatch(folds, tuple(roles), watched, exempt, follows)

    def _ends(self, moment: Moment) -> tuple[EventMatch, ...]:
        """Return what ends a moment; what lives during another ends with it, also when that begins anew."""
        own = _ends(moment)
        host = self.moments.get(moment.shape.moment) if isinstance(moment.shape, During) else None
        if host is None:
            return own
        anew = host.shape.restarts_on if isinstance(host.shape, Absence) else None
        again = () if anew is None else (EventMatch(anew.events, host.key),)
        return (*self._ends(host), *again, *own)

    def _dated_by(self, moment: Moment) -> tuple[str, ...]:
        """Return the events that may set the date around which a moment is."""
        shape = moment.shape
        if isinstance(shape, Around):
            return self.features[shape.date].events
        return self.features[shape.feature].events if isinstance(shape, Launch) else ()

    def _events_asked(self, moment: Moment) -> frozenset[str]:
        """Return the events that change what a moment's condition asks for, directly or through segments."""
        shape = moment.shape
        conditions = [] if moment.only_if is None else [moment.only_if]
        if isinstance(shape, Membership):
            conditions = [self.segments[shape.segment].condition]
        names: set[str] = set()
        while conditions:
            for node in walk(conditions.pop().expression):
                if isinstance(node, InSegment):
                    conditions.append(self.segments[node.segment].condition)
                elif isinstance(node, Read) and node.source == "feature":
                    feature = self.features[node.name]
                    while feature.of is not None:
                        feature = self.features[feature.of]
                    names.update(feature.events)
        return frozenset(names)

    def _disorder_of(self, moment: Moment) -> int:
        """Return how long to wait for stragglers: the most that any topic needs whose events could still move it."""
        if isinstance(moment.shape, Calendar | During | Membership):
            return 0
        names = {name for match in (*_starts(moment), *_ends(moment)) for name in match.events}
        names.update(self._dated_by(moment))
        return max((self._topic_disorder(name) for name in names), default=0)

    def _topic_disorder(self, event: str) -> int:
        return self.policy.disorder.get(self._topics.get(event, ""), self.policy.default_disorder)


_NOTHING: Final = Dispatch()
_STOCK_CHANGES: Final = EventMatch((STOCK,), "sku")


def _waits_for_stock(moment: Moment) -> bool:
    return any(STOCK in match.events for match in (*_starts(moment), *_ends(moment)))


def _followed(campaign: Campaign) -> frozenset[str]:
    """Return the events that end a campaign's series or lead out of its audience, or make a step pointless."""
    stops = {name for match in campaign.stop_when for name in match.events}
    if campaign.to_audience:
        return frozenset({ORDERED} | stops)
    if not campaign.series:
        return frozenset()  # its one message has gone out with the decision
    return frozenset(stops.union(*(step.unless.events for step in campaign.series if step.unless is not None)))


def _starts(moment: Moment) -> tuple[EventMatch, ...]:
    shape = moment.shape
    if isinstance(shape, Absence):
        return (shape.starts_on,) if shape.restarts_on is None else (shape.starts_on, shape.restarts_on)
    if isinstance(shape, Sequence):
        changes = () if shape.then is None else (_STOCK_CHANGES,)
        return (*(stage.event for stage in shape.stages), *changes)
    return (shape.event,) if isinstance(shape, Silence | Total) else ()


def _ends(moment: Moment) -> tuple[EventMatch, ...]:
    shape = moment.shape
    if isinstance(shape, Absence):
        own: tuple[EventMatch, ...] = (shape.unless,)
    elif isinstance(shape, Silence):
        own = (shape.event,)
    elif isinstance(shape, Around | Total | Sequence) and shape.unless is not None:
        own = (shape.unless,)
    else:
        own = ()
    return own + moment.cancelled_by

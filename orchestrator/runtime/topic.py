"""A topic, and all topics by name and by role, as `topics.yaml` declares them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from orchestrator.definitions.catalogue import CATALOGUE, Catalogue, EventType
from orchestrator.definitions.nodes import did_you_mean
from orchestrator.events import DAY, FOREVER
from orchestrator.runtime.errors import USAGE, OperatorError

SINGLE_ROLES = ("profiles", "clock", "triggers", "decisions", "outcomes", "active", "dead_letters", "changelog")
ROLES = ("input", "reference", *SINGLE_ROLES)

_DELETE_RETENTION = 86_400_000
"""How long Kafka keeps the tombstones of a compacted topic that does not say, milliseconds."""

LONGEST_RETENTION = 730 * DAY
"""For how long an input counts as holding an event that it keeps for longer, for ever, or as long as brokers say."""

# How many of a unit make a second.
TIME_UNITS: Mapping[str, int] = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


@dataclass(frozen=True, slots=True)
class Always:
    """The event name every record of an input has."""

    name: str


@dataclass(frozen=True, slots=True)
class EventMapping:
    """Which schema fields carry an event's name, time, id and customer.

    `properties` maps the event's property to the schema field it comes from; None takes every other field under its own
    name. `names` are the events that definitions may ask for, `types` says of what type their properties are.
    """

    name: str | Always
    time: str
    id: str
    customer: str
    time_unit: str = "ms"
    properties: Mapping[str, str] | None = None
    names: tuple[str, ...] = ()
    types: Mapping[str, str] = field(default_factory=dict)

    def milliseconds(self, value: float) -> int:
        """Return the instant in milliseconds for a value of the time field."""
        if self.time_unit == "ms":
            return int(value)
        return int(value * 1_000 // TIME_UNITS[self.time_unit])

    @property
    def fields(self) -> tuple[str, ...]:
        """The schema fields the mapping reads, without the properties."""
        name = () if isinstance(self.name, Always) else (self.name,)
        return (*name, self.time, self.id, self.customer)


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic as declared; `config` holds values as Kafka stores them."""

    name: str
    role: str
    key: str
    partitions: int
    replication_factor: int
    partitioner: str
    co_partitioned: bool
    schema: str | None
    config: Mapping[str, str]
    events: EventMapping | None = None


@dataclass(frozen=True, slots=True)
class Topics:
    """Every declared topic, by name and by role; `prefix` is what the names start with."""

    all: tuple[Topic, ...]
    prefix: str = ""

    def __iter__(self) -> Iterator[Topic]:
        return iter(self.all)

    def __len__(self) -> int:
        return len(self.all)

    def __contains__(self, name: object) -> bool:
        return any(topic.name == name for topic in self.all)

    def by_name(self, name: str) -> Topic:
        """Return the topic of that name, or raise an OperatorError that offers the nearest one."""
        for topic in self.all:
            if topic.name == name:
                return topic
        names = [topic.name for topic in self.all]
        raise OperatorError(f"no topic '{name}' in topics.yaml{did_you_mean(name, names)}", exit_code=USAGE)

    def plain_name(self, name: str) -> str:
        """Return a topic's name without the prefix, as definitions and metrics call it."""
        return name.removeprefix(self.prefix)

    def by_role(self, role: str) -> tuple[Topic, ...]:
        """Return the topics of a role in the order declared."""
        return tuple(topic for topic in self.all if topic.role == role)

    def _single(self, role: str) -> Topic:
        (topic,) = self.by_role(role)
        return topic

    @property
    def inputs(self) -> tuple[Topic, ...]:
        """What customers do: the firehose."""
        return self.by_role("input")

    @property
    def catalogue(self) -> Catalogue:
        """The events that definitions may name: the built-in ones, and those that further inputs declare."""
        return CATALOGUE.extended(
            EventType(name, self.plain_name(topic.name), topic.events.types)
            for topic in self.inputs
            if topic.events is not None
            for name in topic.events.names
        )

    @property
    def references(self) -> tuple[Topic, ...]:
        """What every process reads in full, such as products."""
        return self.by_role("reference")

    @property
    def profiles(self) -> Topic:
        """What is known about a customer."""
        return self._single("profiles")

    @property
    def clock(self) -> Topic:
        """The barriers."""
        return self._single("clock")

    @property
    def triggers(self) -> Topic:
        """What senders subscribe to."""
        return self._single("triggers")

    @property
    def decisions(self) -> Topic:
        """Every decision with its reasons."""
        return self._single("decisions")

    @property
    def outcomes(self) -> Topic:
        """One record per closed measurement window."""
        return self._single("outcomes")

    @property
    def active(self) -> Topic:
        """What holds a customer's slot now."""
        return self._single("active")

    @property
    def dead_letters(self) -> Topic:
        """What could not be read, and why."""
        return self._single("dead_letters")

    @property
    def changelog(self) -> Topic:
        """The state, from which a lost store is rebuilt."""
        return self._single("changelog")

    @property
    def oldest_store(self) -> int:
        """How old a store may be to be built upon, milliseconds: until then the changelog keeps every tombstone.

        A tenth of that time is left for the restore itself.
        """
        retained = int(self.changelog.config.get("delete.retention.ms", _DELETE_RETENTION))
        return retained - retained // 10

    @property
    def retention(self) -> int:
        """For how long an input may hold an event, milliseconds; LONGEST_RETENTION at most."""
        return min(LONGEST_RETENTION, max((_retention(topic) for topic in self.inputs), default=LONGEST_RETENTION))

    @property
    def co_partitioned(self) -> tuple[Topic, ...]:
        """The topics that share key, partition count and partitioner."""
        return tuple(topic for topic in self.all if topic.co_partitioned)

    @property
    def partitions(self) -> int:
        """The partition count all co-partitioned topics share."""
        return self.co_partitioned[0].partitions

    def with_prefix(self, prefix: str) -> Topics:
        """Return the same topics with the prefix in front of every name, instead of the one they had."""
        renamed = tuple(replace(topic, name=prefix + self.plain_name(topic.name)) for topic in self.all)
        return Topics(renamed, prefix)

    def with_partitions(self, partitions: int | None, replication: int | None = None) -> Topics:
        """Return the same topics with another partition count where co-partitioned, and another replication for all."""
        changed = tuple(
            replace(
                topic,
                partitions=partitions if partitions and topic.co_partitioned else topic.partitions,
                replication_factor=replication or topic.replication_factor,
            )
            for topic in self.all
        )
        return Topics(changed, self.prefix)


def _retention(topic: Topic) -> int:
    """Return for how long a topic holds a record, FOREVER where it is not told or never deleted."""
    told = int(topic.config.get("retention.ms", -1))
    return FOREVER if told < 0 or "delete" not in topic.config.get("cleanup.policy", "delete") else told

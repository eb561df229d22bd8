"""The coordinator of consumer groups: members, generations, range assignment, offsets committed and pending."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import NamedTuple

from confluent_kafka import KafkaError

from tests.simulator.log import Place


class Membership(NamedTuple):
    """What a consumer says about itself when it commits."""

    group: str
    member: str
    generation: int
    instance: str | None


class Member:
    """One member as the coordinator knows it."""

    def __init__(self, name: str, topics: Sequence[str], instance: str | None) -> None:
        self.name = name
        self.topics = topics
        self.instance = instance
        self.joined = True
        self.assigned: tuple[Place, ...] = ()


class Group:
    """One group: while `stable`, every member has its share in the current generation."""

    def __init__(self, name: str, partitions: Callable[[str], int]) -> None:
        self.name = name
        self.generation = 0
        self.stable = False
        self.members: dict[str, Member] = {}
        self.offsets: dict[Place, int] = {}
        self.pending: dict[int, dict[Place, int]] = {}
        self.went_back: list[tuple[Place, int, int]] = []
        self.rebalances = 0
        self._fenced: set[str] = set()
        self._partitions = partitions
        self._names = count(1)

    # --- membership -------------------------------------------------------------------------------------------------

    def join(self, name: str, topics: Sequence[str], instance: str | None, prefix: str) -> str:
        """Join or join again; return the member's name."""
        if name not in self.members:
            name = f"{prefix}-{next(self._names):04d}"
            if instance is not None and (before := self._by_instance(instance)) is not None:
                return self._replace(before, name)
            self.members[name] = Member(name, topics, instance)
            self._unsettle(name)
        self.members[name].joined = True
        self._settle()
        return name

    def leave(self, name: str) -> None:
        """Let a member go: it left, or its session expired."""
        if self.members.pop(name, None) is not None:
            self._unsettle()
            self._settle()

    def _by_instance(self, instance: str) -> Member | None:
        return next((member for member in self.members.values() if member.instance == instance), None)

    def _replace(self, before: Member, name: str) -> str:
        """Let a static member's successor take its place; no rebalance in a settled group."""
        del self.members[before.name]
        self._fenced.add(before.name)
        successor = self.members[name] = Member(name, before.topics, before.instance)
        successor.assigned = before.assigned
        self._settle()
        return name

    def _unsettle(self, but: str = "") -> None:
        self.stable = False
        for member in self.members.values():
            if member.name != but:
                member.joined = False

    def _settle(self) -> None:
        """Begin the next generation once everybody has joined again."""
        if self.stable or not self.members or not all(member.joined for member in self.members.values()):
            return
        self.generation += 1
        self.rebalances += 1
        self.stable = True
        # As the range assignor sorts them: by instance id, else by member id.
        members = sorted(self.members.values(), key=lambda member: member.instance or member.name)
        shares: dict[str, list[Place]] = {member.name: [] for member in members}
        for topic in sorted({topic for member in members for topic in member.topics}):
            takers = [member for member in members if topic in member.topics]
            total = self._partitions(topic)
            each, more = divmod(total, len(takers))
            first = 0
            for place, taker in enumerate(takers):
                last = first + each + (place < more)
                shares[taker.name] += [(topic, number) for number in range(first, last)]
                first = last
        for member in members:
            member.assigned = tuple(shares[member.name])

    # --- offsets ----------------------------------------------------------------------------------------------------

    def refusal(self, who: Membership) -> int | None:
        """Return the error code with which a transaction's offsets are refused, None when they are taken."""
        if not who.member and who.generation < 0 and who.instance is None:
            return None  # not a member: nothing to fence by
        if who.instance is not None and who.member in self._fenced:
            return KafkaError.FENCED_INSTANCE_ID
        if who.member not in self.members:
            return KafkaError.UNKNOWN_MEMBER_ID
        if who.generation != self.generation:
            return KafkaError.ILLEGAL_GENERATION
        return None

    def is_fenced(self, name: str) -> bool:
        """Return whether a static member was replaced by another of its instance id."""
        return name in self._fenced

    def commit(self, offsets: Mapping[Place, int]) -> None:
        """Take offsets as committed, and note any that goes back."""
        for place, offset in offsets.items():
            before = self.offsets.get(place, -1)
            if offset < before:
                self.went_back.append((place, before, offset))
            self.offsets[place] = offset

    def is_pending(self, place: Place) -> bool:
        """Return whether an unfinished transaction holds an offset of this partition."""
        return any(place in offsets for offsets in self.pending.values())

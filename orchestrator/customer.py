"""What we know: one customer's state, its sections decoded only when touched, and its versioned bytes.

The layout was decided by measuring it (`bench/state_layout.py`, docs/decisions.md): the core is decoded whole, every
feature and every moment's instances stay raw msgpack until something asks for them, and what was not touched is written
back as it came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from orchestrator.events import FOREVER
from orchestrator.migrations import migrate

STATE_VERSION: Final = 5
"""The version byte in front of every stored state; how to raise it is in migrations.py."""

WAITING: Final = 0
OPEN: Final = 1

_encoder = msgspec.msgpack.Encoder()


class Instance(msgspec.Struct, array_like=True, gc=False):
    """One moment instance that waits or is open; its key is the name it is filed under.

    `due` is the instant at which it opens or opened; `until` the instant from which it is stale, opened or not;
    `reason` and `by` why it was not answered so far.
    """

    state: int
    started: int
    due: int
    until: int
    reason: str = ""
    by: str = ""


class Answered(msgspec.Struct, array_like=True, gc=False):
    """An instance that a decision answered, kept while late data can still prove it wrong.

    It holds what a retraction repeats of the trigger: by then the campaign may have been changed or be gone.
    """

    moment: str
    key: str
    started: int
    opened: int
    until: int
    decision_id: str
    decided_at: int
    campaign: str
    channel: str
    template: str
    trigger_id: str = ""


class Context(msgspec.Struct, array_like=True, gc=False):
    """How the campaign of a window was chosen, for who learns from its outcome.

    `eligible` are all arms that could have been chosen; `free_for` is how long the slot had been free, -1 when nobody
    remembers; `interrupted` tells that another cut in on the window, or that this one did.
    """

    leaf: str = ""
    stage: str = ""
    channel: str = ""
    propensity: float = 0.0
    none_propensity: float = 0.0
    control_bp: int = 0
    eligible: list[str] = []
    free_for: int = -1
    chosen_by: str = ""
    policy_version: str = ""
    interrupted: bool = False


class Window(msgspec.Struct, array_like=True, gc=False):
    """One measurement window, running or closed; `orders` maps an order to [paid, earned] in minor units.

    `cost` is fixed, `cost_bp` a share of what is ordered; `triggers` are the messages sent, `clicked` tells whether one
    of them was; `categories` has those of each order where the objective counts the new ones; `earned_before` is what
    the customer had earned us in the twelve weeks before; `context` is there where anybody learns from it; `late` are
    the orders of its second half, where the objective asks for them.
    """

    decision_id: str
    campaign: str
    control: bool
    moment: str
    start: int
    end: int
    cost: int
    version: str
    revision: int = -1
    orders: dict[str, tuple[int, int]] = {}
    unsubscribed: bool = False
    contaminated: bool = False
    void: bool = False
    triggers: list[str] = []
    clicked: bool = False
    objective: str = "margin"
    offer: str = ""
    cost_bp: int = 0
    categories: dict[str, list[str]] = {}
    earned_before: int = 0
    context: Context | None = None
    late: list[str] = []


class Profile(msgspec.Struct, array_like=True, gc=False):
    """What the customer's profile says; consents map `channel/purpose` to (granted, since)."""

    updated_at: int = -FOREVER
    birth_date: str | None = None
    time_zone: str | None = None
    country: str | None = None
    city: str | None = None
    attributes: dict[str, str] = {}


class Customer(msgspec.Struct, array_like=True, dict=True):
    """One customer's state; mutable, owned by whoever decides for this customer.

    `now` is the latest instant evaluated; `decide_at` the next instant at which a decision is due; `sent` the (instant,
    channel) of messages that count for caps; `seen` maps fingerprints of event ids to when they may be forgotten;
    `over` says per moment and key up to which event time nothing starts it any more; `years` is the last calendar year
    opened; `picked` the last opening of a `pick_one` moment; `recorded` stands for the last decision recorded; `fires`
    is the earliest instant at which each moment needs to be looked at; `earned` is the number of the last week with an
    order, and the margin of that week and of each before it.
    """

    now: int = -FOREVER
    decide_at: int = FOREVER
    window: Window | None = None
    profile: Profile | None = None
    consents: dict[str, tuple[bool, int]] = {}
    sent: list[tuple[int, str]] = []
    seen: dict[int, int] = {}
    over: dict[str, int] = {}
    years: dict[str, int] = {}
    picked: dict[str, int] = {}
    recorded: int = 0
    answered: list[Answered] = []
    fires: dict[str, int] = {}
    raw_closed: msgspec.Raw = msgspec.Raw(b"\x90")
    raw_facts: dict[str, msgspec.Raw] = {}
    raw_instances: dict[str, msgspec.Raw] = {}
    earned: list[int] = []

    def __post_init__(self) -> None:
        self._facts: dict[str, Any] = {}
        self._instances: dict[str, dict[str, Instance]] = {}
        self._closed: list[Window] | None = None
        self._new_facts: set[str] = set()
        self._new_instances: set[str] = set()
        self.filed_by: object = None
        """The definitions by whose names everything is filed, None before anybody looked."""

    def fact(self, feature: str) -> Any:
        """Return a feature's state, None before it has one; `set_fact` keeps a change to it."""
        try:
            return self._facts[feature]
        except KeyError:
            raw = self.raw_facts.get(feature)
            state = None if raw is None else msgspec.msgpack.decode(raw)
            self._facts[feature] = state
            return state

    @property
    def has_facts(self) -> bool:
        """Whether anything was ever folded into a fact."""
        return bool(self.raw_facts) or bool(self._new_facts)

    def set_fact(self, feature: str, state: Any) -> None:
        """Keep a feature's state."""
        self._facts[feature] = state
        self._new_facts.add(feature)

    def instances(self, moment: str) -> dict[str, Instance]:
        """Return a moment's instances by key; changes to it are kept until the next `to_bytes`."""
        self._new_instances.add(moment)
        found = self._instances.get(moment)
        return self.peek(moment) if found is None else found

    def peek(self, moment: str) -> dict[str, Instance]:
        """Return a moment's instances by key, to be looked at only."""
        found = self._instances.get(moment)
        if found is None:
            raw = self.raw_instances.get(moment)
            found = self._instances[moment] = {} if raw is None else _instances_decoder.decode(raw)
        return found

    @property
    def closed(self) -> list[Window]:
        """The closed windows that returns may still amend, oldest first; changes to the list are kept."""
        if self._closed is None:
            self._closed = _windows_decoder.decode(self.raw_closed)
        return self._closed

    @property
    def next_due(self) -> int:
        """The earliest instant at which time alone changes something, FOREVER when nothing waits."""
        due = self.decide_at
        for at in self.fires.values():  # a loop, for there are few: `min` over them takes half as long again
            if at < due:
                due = at
        return due

    def rename(self, fact: Callable[[str], str | None], moment: Callable[[str], str | None]) -> None:
        """File facts and moments under other names, where there is one; what was changed must be in its section.

        Where two become one, the fact that was there first counts, and of two moments all that waits, is open or over.
        """
        facts, instances = self.raw_facts, self.raw_instances
        self.raw_facts, self.raw_instances = {}, {}
        for name, raw in facts.items():
            self.raw_facts.setdefault(fact(name) or name, raw)
        for name, raw in instances.items():
            to = moment(name) or name
            if to in self.raw_instances:
                both = _instances_decoder.decode(raw) | _instances_decoder.decode(self.raw_instances[to])
                raw = msgspec.Raw(_encoder.encode(both))
            self.raw_instances[to] = raw
        self.fires = _renamed(self.fires, moment, min)
        self.years = _renamed(self.years, moment, max)
        self.picked = _renamed(self.picked, moment, max)
        self.over = _renamed(self.over, lambda place: _moved(place, moment), max)
        self._facts.clear()
        self._instances.clear()

    def forget_facts(self, names: Iterable[str]) -> None:
        """Forget what was kept under these names; what was changed must be in its section."""
        for name in names:
            del self.raw_facts[name]
            self._facts.pop(name, None)

    def to_bytes(self) -> bytes:
        """Return the state with its version byte; sections that were not touched are copied as they came."""
        encode = _encoder.encode
        # In order of name: a set has none, and equal histories must leave equal bytes.
        for name in sorted(self._new_facts):
            state = self._facts[name]
            if state is None:
                self.raw_facts.pop(name, None)
            else:
                self.raw_facts[name] = msgspec.Raw(encode(state))
        for moment in sorted(self._new_instances):
            instances = self._instances[moment]
            if instances:
                self.raw_instances[moment] = msgspec.Raw(encode(instances))
            else:
                self.raw_instances.pop(moment, None)
        self._new_facts.clear()
        self._new_instances.clear()
        if self._closed is not None:
            self.raw_closed = msgspec.Raw(encode(self._closed))
        return _VERSION_BYTE + encode(self)


def _renamed(
    instants: dict[str, int], name: Callable[[str], str | None], of_two: Callable[[int, int], int]
) -> dict[str, int]:
    found: dict[str, int] = {}
    for old, at in instants.items():
        new = name(old) or old
        found[new] = of_two(at, found.get(new, at))
    return found


def _moved(place: str, moment: Callable[[str], str | None]) -> str | None:
    """Return where a moment's key is filed when the moment is filed elsewhere."""
    name, slash, key = place.partition("/")
    to = moment(name)
    return None if to is None else f"{to}{slash}{key}"


_VERSION_BYTE: Final = bytes([STATE_VERSION])
_decoder = msgspec.msgpack.Decoder(Customer)
_instances_decoder = msgspec.msgpack.Decoder(dict[str, Instance])
_windows_decoder = msgspec.msgpack.Decoder(list[Window])


def customer_from_bytes(data: bytes) -> Customer:
    """Return the customer that `to_bytes` wrote, in this version or an earlier one.

    Raises UnknownStateVersionError for a version to come.
    """
    if data[0] == STATE_VERSION:
        return _decoder.decode(memoryview(data)[1:])
    return _decoder.decode(migrate(data[1:], data[0], STATE_VERSION))

"""What is defined twice is kept once: equal features share one fact, equal moments one progress, one timer and one end.

Teams copy from each other, so a pack may well hold the same rule under several names. Such a moment is one moment with
several names: it is detected once, every campaign that asks for any of its names competes for it, and what answers it
under one name answers it under all. What is shared is filed under a name made from its content, not under one of its
names: a copy may be added or removed, and what is known of a customer stays (`refile`).

A fact that is not shared is filed under its feature's name and a mark of what it keeps. A feature that comes to mean
something else begins anew, and what it kept before, like what is kept for a feature that is gone, is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from hashlib import blake2b
from typing import Any

from orchestrator.conditions import Condition, InSegment, Read
from orchestrator.customer import Customer
from orchestrator.features import Feature
from orchestrator.moments.rules import Around, During, Launch, Membership, Moment, Schedule, Sequence, Silence, Total

MARK = "="
"""What a name begins with that is made from content; no definition may begin with it."""

TYPED = "~"
"""What stands between a feature's name and the mark of what its fact keeps."""

_KEEPS = ("kind", "events", "field", "key", "over", "where")
"""What of a feature decides what its fact keeps; the rest only decides how it is read."""

_OF_MOMENTS = ("in", "launches", "looks", "steps")
"""How the facts end that a moment keeps for itself."""

_NAMED_ALONE = (Membership, Schedule)
"""Shapes that are never shared: their records say the segment's name."""

_WITHOUT_STATE = ("age_of", "stage", "quantile")

_REFERS: dict[type, str] = {
    Feature: "of",
    Silence: "of",
    Around: "date",
    Launch: "feature",
    Total: "feature",
    Sequence: "first_per",
    During: "moment",
}
"""The field in which a definition names a feature whose fact it reads, or the moment during which it lives."""


@dataclass(frozen=True, slots=True)
class Filed:
    """Definitions by the names under which their state is filed.

    `features` finds a feature by any of its names. `moments` holds each moment once; `filed_as` leads there from a name
    it shares with others, and `names` back to all of them. `facts_from` and `moments_from` say which names of states
    that other definitions left are filed under which name now, and `facts` are all names of facts there are.
    """

    features: dict[str, Feature]
    moments: dict[str, Moment]
    filed_as: dict[str, str] = field(default_factory=dict)
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    facts_from: dict[str, str] = field(default_factory=dict)
    moments_from: dict[str, str] = field(default_factory=dict)
    facts: frozenset[str] = frozenset()


def file_once(
    features: Mapping[str, Feature], segments: Mapping[str, Condition], moments: Mapping[str, Moment]
) -> Filed:
    """Return the definitions, each filed under its own name, or with its equals under one made from their content."""
    contents = _Contents(features, segments, moments)
    kept = [name for name, one in features.items() if one.kind not in _WITHOUT_STATE]
    facts = _by_content(kept, contents.feature)
    shareable = [name for name, one in moments.items() if not isinstance(one.shape, _NAMED_ALONE)]
    shared = _by_content(shareable, contents.moment)
    typed = {name: f"{name}{TYPED}{contents.kept(name)}" for name in kept}
    fact_of = typed | {name: content for content, names in facts.items() if len(names) > 1 for name in names}
    filed_as = {name: content for content, names in shared.items() if len(names) > 1 for name in names}
    filed = Filed({}, {}, filed_as, {filed_as[names[0]]: names for names in shared.values() if len(names) > 1})
    for name, feature in features.items():
        own = fact_of.get(name, name)
        if own not in filed.features:
            filed.features[own] = replace(_referring(feature, fact_of), name=own)
        filed.features[name] = filed.features[own]
    for name, moment in moments.items():
        own = filed_as.get(name, name)
        if own not in filed.moments:
            to = filed_as if isinstance(moment.shape, During) else fact_of
            filed.moments[own] = replace(moment, name=own, shape=_referring(moment.shape, to))
    filed.facts_from.update(_moves(facts, typed))
    filed.moments_from.update(_moves(shared, {name: name for name in shareable}))
    own_facts = {f"{moment}.{end}" for moment in filed.moments for end in _OF_MOMENTS}
    return replace(filed, facts=frozenset({*fact_of.values(), *own_facts}))


def _by_content(names: Iterable[str], content_of: Callable[[str], str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        content = content_of(name)
        found[content] = (*found.get(content, ()), name)
    return found


def _moves(by_content: Mapping[str, tuple[str, ...]], own: Mapping[str, str]) -> dict[str, str]:
    """Return from where to where state moves: from the names of what is shared now, or back to the only name left."""
    moves: dict[str, str] = {}
    for content, names in by_content.items():
        to = own[names[0]] if len(names) == 1 else content
        moves.update(dict.fromkeys([content, *names, *(own[name] for name in names)], to))
        del moves[to]
    return moves


def _referring(one: Any, filed_as: Mapping[str, str]) -> Any:
    """Return a definition that names what it refers to as that is filed."""
    where = _REFERS.get(type(one))
    if where is None or getattr(one, where) not in filed_as:
        return one
    return replace(one, **{where: filed_as[getattr(one, where)]})


class _Contents:
    """Names made from what definitions say, whatever they and those they refer to are called."""

    def __init__(
        self, features: Mapping[str, Feature], segments: Mapping[str, Condition], moments: Mapping[str, Moment]
    ) -> None:
        self._features, self._segments, self._moments = features, segments, moments
        self._known: dict[tuple[str, str], str] = {}

    def feature(self, name: str) -> str:
        """Return what a feature says; a quantile is what its name says, for snapshots give its bands by that."""
        found = self._features.get(name)
        return self._said("feature", name, name if found is None or found.kind == "quantile" else found)

    def segment(self, name: str) -> str:
        """Return what a segment says."""
        return self._said("segment", name, self._segments.get(name, name))

    def moment(self, name: str) -> str:
        """Return what a moment says."""
        return self._said("moment", name, self._moments.get(name, name))

    def kept(self, name: str) -> str:
        """Return a mark of what a feature's fact keeps."""
        feature = self._features[name]
        said = self._text([getattr(feature, part) for part in _KEEPS])
        return blake2b(said.encode(), digest_size=3).hexdigest()

    def _said(self, what: str, name: str, definition: Any) -> str:
        place = (what, name)
        if place not in self._known:
            digest = blake2b(f"{what} {self._text(definition)}".encode(), digest_size=8).hexdigest()
            self._known[place] = MARK + digest
        return self._known[place]

    def _text(self, value: Any) -> str:
        if isinstance(value, Condition):
            return self._text(value.expression)
        if isinstance(value, InSegment):
            return self.segment(value.segment)
        if is_dataclass(value):
            return f"{type(value).__name__}({', '.join(self._fields(value))})"
        if isinstance(value, list | tuple):
            return f"({', '.join(map(self._text, value))})"
        return repr(sorted(value) if isinstance(value, frozenset) else value)

    def _fields(self, value: Any) -> Iterable[str]:
        named = _REFERS.get(type(value), "")
        if isinstance(value, Read) and value.source == "feature":
            named = "name"
        for one in fields(value):
            said = getattr(value, one.name)
            if one.name == named:
                yield f"{one.name}={self.moment(said) if isinstance(value, During) else self.feature(said)}"
            # Without what is as it is by default, a field that a later release adds changes no name.
            elif said != one.default and not (
                isinstance(value, Feature | Moment) and one.name in ("name", "say", "keeps_bought")
            ):
                yield f"{one.name}={self._text(said)}"


def refile(customer: Customer, filed: Filed) -> None:
    """File what other definitions left of a customer as these do; of several that are one now, the first counts."""
    if customer.filed_by is not None:
        customer.to_bytes()  # what was changed in memory goes back to its sections
    customer.filed_by = filed
    facts, moments = filed.facts_from, filed.moments_from
    if not (facts.keys().isdisjoint(customer.raw_facts) and moments.keys().isdisjoint(_moments_of(customer))):
        customer.rename(lambda fact: facts.get(fact) or _of_moment(fact, moments), moments.get)
    if not customer.raw_facts.keys() <= filed.facts:
        customer.forget_facts([fact for fact in customer.raw_facts if fact not in filed.facts and _is_ours(fact)])


def _is_ours(fact: str) -> bool:
    """Return whether a fact was kept for a feature or a moment."""
    return TYPED in fact or fact.startswith(MARK) or fact.rpartition(".")[2] in _OF_MOMENTS


def _moments_of(customer: Customer) -> set[str]:
    """Return the names under which anything about moments is filed."""
    places = {place.partition("/")[0] for place in customer.over}
    return places.union(customer.fires, customer.raw_instances, customer.years, customer.picked)


def _of_moment(fact: str, moments: Mapping[str, str]) -> str | None:
    """Return the new name of a fact that a moment keeps for itself, such as how far a sequence has come."""
    moment, dot, rest = fact.rpartition(".")
    return f"{moments[moment]}{dot}{rest}" if moment in moments else None

"""Whether a condition can ever hold: what it asks of each value, taken together, leaves something or nothing.

It errs on the side of silence: values are taken to be independent of one another, and a condition of very many
alternatives is not looked into.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from typing import Any

from orchestrator.conditions import (
    COMPARISONS,
    MIRRORED,
    OPPOSITE,
    Age,
    Among,
    And,
    Compare,
    Expression,
    InSegment,
    IsUnknown,
    Literal,
    Not,
    Or,
    Read,
    readable,
)
from orchestrator.features import Feature
from orchestrator.program import Segment

_MOST = 200
"""How many alternatives, and how many demands in each, are looked into."""

_BUDGET = 3_000_000
"""How many demands are looked at for all conditions together, about a second's worth; what comes after is not."""


@dataclass(frozen=True, slots=True)
class Domain:
    """What values there are at all: bounds, both included, whole numbers or not, few words, and never unknown."""

    low: int | None = None
    high: int | None = None
    whole: bool = False
    words: tuple[Any, ...] | None = None
    known: bool = False


@dataclass(frozen=True, slots=True)
class Demand:
    """What one part of a condition asks of one value; `word` is a comparison, `in`, `not in`, `known` or `unknown`."""

    subject: Expression
    word: str
    fixed: Any = None

    def __str__(self) -> str:
        name = _name(self.subject)
        if self.word in ("known", "unknown"):
            return f"{name} is {'not ' if self.word == 'known' else ''}unknown"
        if isinstance(self.fixed, bool) and self.word in ("==", "!="):
            return name if self.fixed is (self.word == "==") else f"not {name}"
        if self.word in ("in", "not in"):
            options = ", ".join(_fixed(option, self.subject) for option in self.fixed)
            return f"{'not ' if self.word == 'not in' else ''}{name} in [{options}]"
        return f"{name} {self.word} {_fixed(self.fixed, self.subject)}"


Branch = tuple[Demand, ...]


class _TooManyError(Exception):
    pass


class Knowledge:
    """What is known of all values: features and segments as they are declared."""

    def __init__(self, features: Mapping[str, Feature], segments: Mapping[str, Segment]) -> None:
        self._features = features
        self._segments = segments
        self._asked: dict[tuple[str, bool], tuple[Branch, ...]] = {}
        self._spent = 0

    def impossible(self, *together: Expression) -> str | None:
        """Return why conditions are never all true, in the words of the first contradiction; None if they may be."""
        first: str | None = None
        try:
            for branch in self._branches(And(together), truth=True):
                why = self._contradiction(branch)
                if why is None:
                    return None
                first = first or why
        except _TooManyError:
            return None
        return first or "it says false"

    def never_false(self, expression: Expression) -> bool:
        """Return whether a condition is true or unknown, whatever the values are."""
        return self.impossible(Not(expression)) is not None

    # --- a condition as alternatives, each a list of demands ---

    def _branches(self, node: Expression, *, truth: bool) -> tuple[Branch, ...]:
        if isinstance(node, Not):
            return self._branches(node.operand, truth=not truth)
        if isinstance(node, And | Or):
            parts = [self._branches(operand, truth=truth) for operand in node.operands]
            return self._all_of(parts) if isinstance(node, And) is truth else self._any_of(parts)
        if isinstance(node, InSegment):
            return self._segment(node, truth=truth)
        if isinstance(node, Literal):
            return ((),) if node.fixed is truth else ()
        return (tuple(_demands(node, truth=truth)),)

    def _segment(self, node: InSegment, *, truth: bool) -> tuple[Branch, ...]:
        asked = (node.segment, truth)
        if asked not in self._asked:
            itself: Branch = (Demand(node, "==", fixed=truth),)
            segment = self._segments.get(node.segment)
            inside = [] if segment is None else [self._branches(segment.condition.expression, truth=truth)]
            self._asked[asked] = self._all_of([(itself,), *inside])
        return self._asked[asked]

    def _any_of(self, parts: Iterable[tuple[Branch, ...]]) -> tuple[Branch, ...]:
        return self._affordable(dict.fromkeys(branch for part in parts for branch in part))

    def _all_of(self, parts: Iterable[tuple[Branch, ...]]) -> tuple[Branch, ...]:
        found: tuple[Branch, ...] = ((),)
        for part in parts:
            joined = (tuple(dict.fromkeys((*left, *right))) for left in found for right in part)
            found = self._affordable(dict.fromkeys(islice(joined, _MOST + 1)))
        return found

    def _affordable(self, branches: Iterable[Branch]) -> tuple[Branch, ...]:
        found = tuple(branches)
        longest = max(map(len, found), default=0)
        self._spent += len(found) * longest
        if len(found) > _MOST or longest > _MOST or self._spent > _BUDGET:
            raise _TooManyError
        return found

    # --- what is left ---

    def _contradiction(self, branch: Branch) -> str | None:
        asked: dict[Expression, list[Demand]] = {}
        for demand in branch:
            asked.setdefault(demand.subject, []).append(demand)
        for subject, demands in asked.items():
            domain = self._domain(subject)
            if not _leaves_something(demands, domain):
                return _why(demands, domain)
        return None

    def _domain(self, subject: Expression) -> Domain:
        if isinstance(subject, InSegment):
            return _TRUTHS
        if isinstance(subject, Age):
            since = subject.since
            feature = self._features.get(since.name) if isinstance(since, Read) and since.source == "feature" else None
            return _PAST if feature is not None and feature.kind in ("first_time", "last_time") else _ANYTHING
        if not isinstance(subject, Read):
            return _ANYTHING
        if subject.unit == "truth":
            return _TRUTHS
        if subject.source == "product":
            return _PRODUCT.get(subject.name, _ANYTHING)
        feature = self._features.get(subject.name) if subject.source == "feature" else None
        return _ANYTHING if feature is None else _domain_of(feature)


_ANYTHING = Domain()
_TRUTHS = Domain(words=(True, False))
_PAST = Domain(low=0)
_PRODUCT = {"stock": Domain(low=0, whole=True), "price": Domain(low=0), "typical_days_of_supply": Domain(low=0)}


def _domain_of(feature: Feature) -> Domain:
    if feature.kind == "count":
        return Domain(low=0, whole=True, known=feature.key is None)
    if feature.kind == "distinct":
        return Domain(low=0, high=feature.max_keys, whole=True, known=True)
    if feature.kind == "sum":
        return Domain(known=feature.key is None)
    if feature.kind == "p_alive":
        return Domain(low=0, high=1)
    if feature.kind in ("age_of", "median_gap"):
        return _PAST
    if feature.kind == "quantile":
        return Domain(words=tuple(band for band, _ in feature.bands))
    return _ANYTHING


def _demands(node: Expression, *, truth: bool) -> Iterator[Demand]:
    """Yield what must be so for a comparison to be true, or for it to be false."""
    if isinstance(node, IsUnknown):
        yield _known(node.operand, known=node.negated is truth)
    elif isinstance(node, Among):
        yield from _of(node.left, "in" if truth else "not in", node.options)
    elif not isinstance(node, Compare):
        yield Demand(node, "==", fixed=truth)
    else:
        word = node.operator if truth else OPPOSITE[node.operator]
        if isinstance(node.right, Literal):
            yield from _of(node.left, word, node.right.fixed)
        elif isinstance(node.left, Literal):
            yield from _of(node.right, MIRRORED[word], node.left.fixed)
        else:
            yield _known(node.left, known=True)
            yield _known(node.right, known=True)


def _of(subject: Expression, word: str, fixed: Any) -> Iterator[Demand]:
    yield Demand(subject, word, fixed)
    if isinstance(subject, Age):
        yield _known(subject, known=True)


def _known(subject: Expression, *, known: bool) -> Demand:
    """Return that a value is known or not; an age is when the instant is."""
    return Demand(subject.since if isinstance(subject, Age) else subject, "known" if known else "unknown")


def _why(demands: Sequence[Demand], domain: Domain) -> str:
    """Return the fewest demands that leave nothing, in words, and what there is if that matters."""
    few: Sequence[Demand] = demands
    for count in (1, 2):
        few = next((some for some in combinations(demands, count) if not _leaves_something(some, domain)), few)
        if few is not demands:
            break
    hint = "" if not _leaves_something(few, _ANYTHING) else _hint(few, domain)
    if len(few) == 1:
        return f"no value makes {few[0]} true{hint}"
    return f"{' and '.join(map(str, few))} exclude {'each other' if len(few) == 2 else 'one another'}{hint}"


def _hint(demands: Iterable[Demand], domain: Domain) -> str:
    if any(demand.word == "unknown" for demand in demands):
        return ", it is always known"
    if domain.words is not None:
        return f", it is one of {', '.join(map(str, domain.words))}"
    if domain.low is None or domain.high is None:
        return f", it is {'a whole number from 0 on' if domain.whole else '0 or more'}"
    return f", it goes from {domain.low} to {domain.high}"


def _leaves_something(demands: Sequence[Demand], domain: Domain) -> bool:
    """Return whether some value, or none where nobody asks for one, meets all demands on it."""
    if any(demand.word == "unknown" for demand in demands):
        return not domain.known and all(demand.word == "unknown" for demand in demands)
    asked = [demand for demand in demands if demand.word != "known"]
    few = [set(demand.fixed) for demand in asked if demand.word == "in"]
    few += [{demand.fixed} for demand in asked if demand.word == "=="]
    if domain.words is not None:
        few.append(set(domain.words))
    if few:
        return any(_meets(value, asked, domain) for value in set.intersection(*few))
    try:
        return _interval_is_open(asked, domain)
    except TypeError:  # of different types: told elsewhere
        return True


def _meets(value: Any, demands: Iterable[Demand], domain: Domain) -> bool:
    try:
        if (domain.low is not None and value < domain.low) or (domain.high is not None and value > domain.high):
            return False
        if domain.whole and value != int(value):
            return False
        return all(
            (value in demand.fixed) is (demand.word == "in")
            if demand.word in ("in", "not in")
            else COMPARISONS[demand.word](value, demand.fixed)
            for demand in demands
        )
    except TypeError:
        return True


def _interval_is_open(demands: Iterable[Demand], domain: Domain) -> bool:
    """Return whether anything lies between the bounds that comparisons set, apart from what they rule out."""
    lows = [(domain.low, False)] if domain.low is not None else []
    highs = [(domain.high, False)] if domain.high is not None else []
    ruled_out: set[Any] = set()
    for demand in demands:
        if demand.word in (">", ">="):
            lows.append((demand.fixed, demand.word == ">"))
        elif demand.word in ("<", "<="):
            highs.append((demand.fixed, demand.word == "<"))
        else:
            ruled_out.update(demand.fixed if demand.word == "not in" else (demand.fixed,))
    if not lows or not highs:
        return True
    (low, above), (high, below) = max(lows), min(highs, key=lambda bound: (bound[0], not bound[1]))
    if domain.whole:
        first = int(low) + 1 if above or low != int(low) else int(low)
        last = int(high) - 1 if below and high == int(high) else int(high)
        return any(value not in ruled_out for value in range(first, min(last, first + len(ruled_out)) + 1))
    return bool(low < high) or (low == high and not above and not below and low not in ruled_out)


def _name(subject: Expression) -> str:
    return f"age({_name(subject.since)})" if isinstance(subject, Age) else str(subject)


def _fixed(value: Any, subject: Expression) -> str:
    if isinstance(value, str):
        return f"'{value}'"
    unit = "duration" if isinstance(subject, Age) else subject.unit if isinstance(subject, Read) else ""
    return readable(value, unit)

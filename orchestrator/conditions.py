"""Conditions over what we know, in three-valued logic: true, false, or None for unknown.

Kleene's rules: `False and unknown` is false, `True or unknown` is true, everything else with an unknown is unknown.
Only the final answer decides, and there an unknown fails closed.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol


class View(Protocol):
    """What a condition can ask about: one customer at one instant, perhaps about one moment or event."""

    now: int

    def read(self, source: str, name: str, key: str | None) -> Any:
        """Return a value, or None when it is unknown."""

    def in_segment(self, name: str) -> bool | None:
        """Return whether the customer is in a segment, or None when that is unknown."""


class Expression(Protocol):
    """One node of a condition."""

    def value(self, view: View) -> Any:
        """Return the node's value for a view, None when unknown."""

    def children(self) -> tuple[Expression, ...]:
        """Return the nodes below."""


@dataclass(frozen=True, slots=True)
class Literal:
    """A fixed value: a number (money in minor units, durations in milliseconds), a text or a truth."""

    fixed: Any

    def value(self, view: View) -> Any:  # noqa: ARG002 - the protocol's shape
        """Return the fixed value."""
        return self.fixed

    def children(self) -> tuple[Expression, ...]:
        """Return nothing: a leaf."""
        return ()


@dataclass(frozen=True, slots=True)
class Read:
    """A value read from the view; `source` is feature, profile, moment, event or product."""

    source: str
    name: str
    key: Expression | None = None
    unit: str = ""

    def value(self, view: View) -> Any:
        """Return what the view knows, None when unknown."""
        if self.key is None:
            return view.read(self.source, self.name, None)
        key = self.key.value(view)
        return None if key is None else view.read(self.source, self.name, str(key))

    def children(self) -> tuple[Expression, ...]:
        """Return the key's node, if there is one."""
        return () if self.key is None else (self.key,)

    def __str__(self) -> str:
        stem = self.name if self.source == "feature" else f"{self.source}.{self.name}"
        return stem if self.key is None else f"{stem}[...]"


@dataclass(frozen=True, slots=True)
class InSegment:
    """Whether the customer is in a segment."""

    segment: str

    def value(self, view: View) -> bool | None:
        """Return the truth, None when unknown."""
        return view.in_segment(self.segment)

    def children(self) -> tuple[Expression, ...]:
        """Return nothing: a leaf."""
        return ()

    def __str__(self) -> str:
        return f"in_segment('{self.segment}')"


@dataclass(frozen=True, slots=True)
class Age:
    """The time since an instant, milliseconds."""

    since: Expression

    def value(self, view: View) -> int | None:
        """Return now minus the instant, None when the instant is unknown."""
        since = self.since.value(view)
        return None if since is None else view.now - since

    def children(self) -> tuple[Expression, ...]:
        """Return the instant's node."""
        return (self.since,)


COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip

OPPOSITE = {"==": "!=", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}
"""What holds of two known values where a comparison does not."""

MIRRORED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
"""What says the same with the sides exchanged."""


@dataclass(frozen=True, slots=True)
class Compare:
    """A comparison of two values."""

    operator: str
    left: Expression
    right: Expression

    def value(self, view: View) -> bool | None:
        """Return the truth, None when either side is unknown."""
        left, right = self.left.value(view), self.right.value(view)
        if left is None or right is None:
            return None
        try:
            return COMPARISONS[self.operator](left, right)
        except TypeError:  # data that is not of the declared type tells us nothing, and must stop nobody
            return None

    def children(self) -> tuple[Expression, ...]:
        """Return both sides."""
        return self.left, self.right


@dataclass(frozen=True, slots=True)
class Among:
    """Whether a value is one of several."""

    left: Expression
    options: tuple[Any, ...]

    def value(self, view: View) -> bool | None:
        """Return the truth, None when the value is unknown."""
        left = self.left.value(view)
        return None if left is None else left in self.options

    def children(self) -> tuple[Expression, ...]:
        """Return the value's node."""
        return (self.left,)


@dataclass(frozen=True, slots=True)
class IsUnknown:
    """Whether a value is unknown; never unknown itself."""

    operand: Expression
    negated: bool = False

    def value(self, view: View) -> bool:
        """Return the truth."""
        return (self.operand.value(view) is None) is not self.negated

    def children(self) -> tuple[Expression, ...]:
        """Return the operand."""
        return (self.operand,)


@dataclass(frozen=True, slots=True)
class Not:
    """Negation; unknown stays unknown."""

    operand: Expression

    def value(self, view: View) -> bool | None:
        """Return the truth, None when the operand is unknown."""
        truth = self.operand.value(view)
        return None if truth is None else not truth

    def children(self) -> tuple[Expression, ...]:
        """Return the operand."""
        return (self.operand,)


@dataclass(frozen=True, slots=True)
class And:
    """Conjunction: false if any is false, else unknown if any is unknown."""

    operands: tuple[Expression, ...]

    def value(self, view: View) -> bool | None:
        """Return the truth, None when unknown."""
        answer: bool | None = True
        for operand in self.operands:
            truth = operand.value(view)
            if truth is False:
                return False
            if truth is None:
                answer = None
        return answer

    def children(self) -> tuple[Expression, ...]:
        """Return the operands."""
        return self.operands


@dataclass(frozen=True, slots=True)
class Or:
    """Disjunction: true if any is true, else unknown if any is unknown."""

    operands: tuple[Expression, ...]

    def value(self, view: View) -> bool | None:
        """Return the truth, None when unknown."""
        answer: bool | None = False
        for operand in self.operands:
            truth = operand.value(view)
            if truth is True:
                return True
            if truth is None:
                answer = None
        return answer

    def children(self) -> tuple[Expression, ...]:
        """Return the operands."""
        return self.operands


def walk(expression: Expression) -> Iterator[Expression]:
    """Yield a node and all below it, in the order written."""
    yield expression
    for child in expression.children():
        yield from walk(child)


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition as written and as compiled."""

    text: str
    expression: Expression

    def holds(self, view: View) -> bool | None:
        """Return true, false, or None when unknown."""
        truth: bool | None = self.expression.value(view)
        return truth

    def saw(self, view: View) -> str:
        """Return the values it read, readable: `cart_value = 12.40, orders_lifetime = 3`."""
        seen: dict[str, str] = {}
        for node in walk(self.expression):
            if isinstance(node, Read):
                seen[str(node)] = readable(node.value(view), node.unit)
            elif isinstance(node, InSegment):
                seen[str(node)] = readable(node.value(view), "")
        return ", ".join(f"{name} = {value}" for name, value in seen.items())

    @property
    def reads(self) -> tuple[Read, ...]:
        """The values it reads, in the order written."""
        return tuple(node for node in walk(self.expression) if isinstance(node, Read))


def readable(value: Any, unit: str) -> str:
    """Return a value in a marketer's words: money with two decimals, durations in days, hours or minutes."""
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, int):
        return str(value)
    if unit == "money":
        return f"{'-' if value < 0 else ''}{abs(value) // 100}.{abs(value) % 100:02d}"
    if unit == "instant":
        return datetime.fromtimestamp(value // 1000, UTC).isoformat(timespec="minutes")
    if unit == "duration":
        for size, letter in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m")):
            if value >= size:
                return f"{value / size:.1f}".rstrip("0").rstrip(".") + letter
        return f"{value // 1000}s"
    return str(value)

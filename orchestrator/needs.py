"""What a condition needs to hold: the fewest values that would have to be others, each with what it is now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.conditions import (
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
from orchestrator.view import CustomerView


@dataclass(frozen=True, slots=True)
class Need:
    """One value that would have to be another; `value` is the nearest that does, None where any other would."""

    text: str
    read: Read | None = None
    value: Any = None


def needs(expression: Expression, view: CustomerView, *, wanted: bool = True) -> tuple[Need, ...]:
    """Return what would have to be so for an expression to be true, or false; nothing where it is already."""
    if expression.value(view) is wanted:
        return ()
    if isinstance(expression, Not):
        return needs(expression.operand, view, wanted=not wanted)
    if isinstance(expression, And | Or):
        each = [needs(operand, view, wanted=wanted) for operand in expression.operands]
        if isinstance(expression, And) is wanted:
            return tuple(dict.fromkeys(need for one in each for need in one))
        return min((one for one in each if one), key=len)
    if isinstance(expression, InSegment):
        return needs(view.program.segments[expression.segment].condition.expression, view, wanted=wanted)
    return (_need(expression, view, wanted),)


def _need(expression: Expression, view: CustomerView, wanted: bool) -> Need:
    if isinstance(expression, Compare):
        return _compared(expression, view, wanted)
    if isinstance(expression, Among) and isinstance(expression.left, Read):
        read = expression.left
        options = ", ".join(readable(option, read.unit) for option in expression.options)
        said = (
            f"{read} must {'' if wanted else 'not '}be one of {options}; it is {readable(read.value(view), read.unit)}"
        )
        return Need(said, read, expression.options[0] if wanted else None)
    if isinstance(expression, IsUnknown) and isinstance(expression.operand, Read):
        unknown = wanted is not expression.negated
        return Need(f"{expression.operand} must {'not ' if unknown else ''}be known", expression.operand)
    if isinstance(expression, Read):
        return Need(f"{expression} must be {readable(wanted, '')}", expression, wanted)
    return Need(f"something that is {readable(not wanted, '')} must be {readable(wanted, '')}")


def _compared(compare: Compare, view: CustomerView, wanted: bool) -> Need:
    name, left, right = compare.operator, compare.left, compare.right
    if isinstance(left, Literal):
        name, left, right = MIRRORED[name], right, left
    name = name if wanted else OPPOSITE[name]
    read = left if isinstance(left, Read) else left.since if isinstance(left, Age) else None
    unit = "duration" if isinstance(left, Age) else left.unit if isinstance(left, Read) else ""
    limit, value = right.value(view), left.value(view)
    what = f"the time since {read}" if isinstance(left, Age) else str(read or "it")
    said = f"{what} must be {name} {readable(limit, unit)}; it is {readable(value, unit)}"
    if not isinstance(left, Read) or not isinstance(right, Literal):
        return Need(said)
    whole = isinstance(limit, int) and not isinstance(limit, bool)
    nearest = {">": limit + 1, "<": limit - 1} if whole else {}
    if name in ("==", ">=", "<="):
        nearest[name] = limit
    return Need(said, left, nearest.get(name))

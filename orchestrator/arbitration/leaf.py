"""Which customers are alike: the values by which the policy tells them apart, as text.

`value_tier=high;heroes=yes` in the order of the policy; what is unknown is `?`. Nobody is told apart by nothing: then
all are of the leaf of everybody.
"""

from __future__ import annotations

from typing import Any

from orchestrator.valuation import EVERYBODY
from orchestrator.view import CustomerView

UNKNOWN = "?"

_MAX_VALUE = 64
_CLEAN = str.maketrans({";": "_", "=": "_"})


def leaf_of(view: CustomerView) -> str:
    """Return the leaf of a customer at an instant."""
    by = view.program.policy.by
    return ";".join(f"{name}={_text(_value(view, name))}" for name in by) if by else EVERYBODY


def features_of(view: CustomerView) -> dict[str, float | str]:
    """Return the values among which sub-personas are looked for, as far as they are known."""
    found: dict[str, float | str] = {}
    for name in view.program.policy.split_on:
        value = view.feature(name)
        if value is not None:
            found[name] = float(value) if isinstance(value, int | float) else str(value)[:_MAX_VALUE]
    return found


def _value(view: CustomerView, name: str) -> Any:
    return view.in_segment(name) if name in view.program.segments else view.feature(name)


def _text(value: Any) -> str:
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)[:_MAX_VALUE].translate(_CLEAN)

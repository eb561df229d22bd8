"""Ids from causes and chance from ids: the same cause gives the same id and draw, whatever crashed in between."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

_SEPARATOR: Final = "\x1f"


def identify(*cause: str | int) -> str:
    """Return 32 hex digits that name a cause; equal causes give equal ids."""
    return blake2b(_SEPARATOR.join(map(str, cause)).encode(), digest_size=16).hexdigest()


def draw(salt: str, *cause: str | int) -> int:
    """Return a number from 0 to 9,999, uniform over causes and independent between salts."""
    digest = blake2b(_SEPARATOR.join((salt, *map(str, cause))).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % 10_000


def pick(salt: str, among: int, *cause: str | int) -> int:
    """Return a number from 0 to below `among`, uniform over causes and independent between salts."""
    digest = blake2b(_SEPARATOR.join((salt, *map(str, cause))).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % among


def fingerprint(text: str) -> int:
    """Return 63 bits that stand for a text, in states that must stay small."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1

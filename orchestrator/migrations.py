"""Stored states of earlier versions, made into today's one version at a time: a table from a version to a function.

How to change the layout of a state (a field of `Customer`, `Window`, `Answered`, `Instance` or `Profile`, or what a
feature keeps):

1. Raise `STATE_VERSION` in `customer.py` by one, in the change that alters the layout.
2. Register here, under the version that was, a function from its bytes to the bytes of the next. It works on what
   msgpack holds, not on today's classes, which go on changing: `decode`, change the list, `encode`.
3. Add the golden bytes of the new version: `python -m tests.test_migrations`. Files of earlier versions never change.

States are migrated when they are read; a worker with `ORCHESTRATOR_MIGRATE_STATE=true` also rewrites all of its
customers, through its ordinary commits. A state of a version to come is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

Migration = Callable[[bytes], bytes]
"""Takes the bytes of one version, without the version byte, and returns those of the next."""

MIGRATIONS: dict[int, Migration] = dict.fromkeys((1, 2, 3, 4), lambda payload: payload)
"""By the version that a function reads.

1 to 2: windows got fields at their end, which are read as their defaults where they are missing.
2 to 3: so did customers and windows, for what was earned before.
3 to 4: and what predicts the next order, for the trip before the last.
4 to 5: and windows, for how their campaign was chosen.
"""


class UnknownStateVersionError(Exception):
    """A state of a version that this program does not know: refuse to start rather than to guess."""


def migrate(payload: bytes, version: int, wanted: int, migrations: Mapping[int, Migration] = MIGRATIONS) -> bytes:
    """Return the bytes of a state in the wanted version; raises UnknownStateVersionError when no way leads there."""
    if version > wanted:
        raise UnknownStateVersionError(newer(version, wanted))
    for step in range(version, wanted):
        migration = migrations.get(step)
        if migration is None:
            message = f"a stored state has version {version}, and this program cannot read versions before {step + 1}"
            raise UnknownStateVersionError(f"{message}: run the last program that could, with its states migrated")
        payload = migration(payload)
    return payload


def newer(version: int, known: int) -> str:
    """Return what to say about a state of a version to come."""
    return (
        f"the stored state has version {version}, this program knows {known}: "
        "run the newer program again, it cannot be taken back once it has written"
    )


decode: Callable[[bytes], Any] = msgspec.msgpack.decode
encode: Callable[[Any], bytes] = msgspec.msgpack.encode

"""`Event`: what happened, to whom, at which event time; one type for every inbound topic."""

from __future__ import annotations

from typing import Any, Final

import msgspec

SECOND: Final = 1_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

FOREVER: Final = 2**62
"""An instant that never comes; milliseconds."""

PROFILE: Final = "profile.changed"
"""The name of the event that a record of `customer-profiles` is; its data is the profile."""

ERASED: Final = "profile.erased"
"""The name of the event that a tombstone of `customer-profiles` is."""

STOCK: Final = "product.stock"
"""The name of the event that a new version of a product is to those who wait for its stock; its data is the sku."""

ORDERED: Final = "order.placed"
SENT: Final = "message.sent"
CLICKED: Final = "message.clicked"
"""A message went out; `trigger_id` says that it was ours."""

UNSUBSCRIBED: Final = "customer.unsubscribed"
"""The customer said no to a channel."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event of one customer.

    `time` is event time in milliseconds; `topic` is the topic's place in `topics.yaml`, which orders events of one
    instant; `offset` its offset; `data` the decoded record.
    """

    name: str
    customer: str
    time: int
    id: str = ""
    topic: int = 0
    offset: int = 0
    data: dict[str, Any] = {}

    def order(self) -> tuple[int, int, int]:
        """Return what events of one customer are ordered by."""
        return self.time, self.topic, self.offset

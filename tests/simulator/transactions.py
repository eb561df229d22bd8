"""The coordinator of transactions: epochs, time-outs, and markers that may take their time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tests.simulator.log import Place

if TYPE_CHECKING:
    from tests.simulator.fake_kafka import FakeKafka

EMPTY, ONGOING, ENDING = "empty", "ongoing", "ending"


class Fenced(Exception):  # noqa: N818 - the broker's word
    """The epoch is not the newest of its transactional id."""


class Transaction:
    """What the coordinator keeps for one transactional id."""

    def __init__(self, name: str, owner: int) -> None:
        self.name = name
        self.owner = owner
        self.epoch = -1
        self.state = EMPTY
        self.timeout = 0
        self.number = 0
        self.places: dict[Place, None] = {}
        self.groups: dict[str, dict[Place, int]] = {}
        self.unmarked = 0


class Transactions:
    """All transactional ids of the brokers."""

    def __init__(self, kafka: FakeKafka) -> None:
        self._kafka = kafka
        self._known: dict[str, Transaction] = {}
        self.marker_delay: Callable[[Transaction], int] = lambda _: 0
        self.timed_out = 0

    def get(self, name: str) -> Transaction:
        """Return what is kept for an id."""
        if name not in self._known:
            self._known[name] = Transaction(name, len(self._known))
        return self._known[name]

    def begin_epoch(self, name: str, timeout: int) -> int | None:
        """Take over an id, aborting what its former owner left open; None while that takes its time."""
        transaction = self.get(name)
        if transaction.state == ONGOING:
            transaction.epoch += 1
            self._end(transaction, committed=False)
        if transaction.state == ENDING:
            return None
        transaction.epoch += 1
        transaction.timeout = timeout
        return transaction.epoch

    def join(self, name: str, epoch: int) -> Transaction | None:
        """Return the open transaction, begun by its first record or offset; None while the one before is ending."""
        transaction = self._checked(name, epoch)
        if transaction.state == ENDING:
            return None
        if transaction.state == EMPTY:
            transaction.state = ONGOING
            transaction.number += 1
            number = transaction.number
            self._kafka.clock.after(transaction.timeout, lambda: self._expire(transaction, number))
        return transaction

    def end(self, name: str, epoch: int, *, committed: bool, number: int | None = None) -> None:
        """Decide a transaction, the one of a number where given: its fate is sealed, its markers are on their way."""
        transaction = self._checked(name, epoch)
        if transaction.state == ONGOING and number in (None, transaction.number):
            self._end(transaction, committed=committed)

    def _checked(self, name: str, epoch: int) -> Transaction:
        transaction = self.get(name)
        if epoch != transaction.epoch:
            raise Fenced
        return transaction

    def _expire(self, transaction: Transaction, number: int) -> None:
        if transaction.state == ONGOING and transaction.number == number:
            self.timed_out += 1
            transaction.epoch += 1
            self._end(transaction, committed=False)

    def _end(self, transaction: Transaction, *, committed: bool) -> None:
        transaction.state = ENDING
        places, groups = transaction.places, transaction.groups
        transaction.places, transaction.groups = {}, {}
        marks: list[Callable[[], None]] = [self._marking(transaction, place, committed=committed) for place in places]
        marks += [
            self._releasing(transaction, group, offsets, committed=committed) for group, offsets in groups.items()
        ]
        transaction.unmarked = len(marks)
        for mark in marks:
            delay = self.marker_delay(transaction)
            if delay:
                self._kafka.clock.after(delay, mark)
            else:
                mark()
        if not marks:
            transaction.state = EMPTY

    def _marking(self, transaction: Transaction, place: Place, *, committed: bool) -> Callable[[], None]:
        def mark() -> None:
            self._kafka.log(place).mark(transaction.owner, self._kafka.clock.now, committed=committed)
            self._marked(transaction)

        return mark

    def _releasing(
        self, transaction: Transaction, group: str, offsets: Mapping[Place, int], *, committed: bool
    ) -> Callable[[], None]:
        def release() -> None:
            found = self._kafka.group(group)
            found.pending.pop(transaction.owner, None)
            if committed:
                found.commit(offsets)
            self._marked(transaction)

        return release

    def _marked(self, transaction: Transaction) -> None:
        transaction.unmarked -= 1
        if transaction.unmarked == 0:
            transaction.state = EMPTY

"""A reference sender: reads campaign-triggers, sends each message once, and reports what became of it.

    python examples/sender.py --bootstrap-servers localhost:9092 --ledger sender.db

It needs the packages confluent-kafka and fastavro, and the folder schemas/. Copy it and replace the provider.

Everything it promises rests on the ledger, a table with one row per (trigger_id, action):

- A record is written to the ledger before its offset is committed, so none is lost; a second delivery finds its row.
- A message is marked `sending`, in a transaction, before the provider is called, and `sent` after. So whatever kills
  the process, what is left says whether the call had not begun (`queued`), was answered (`sent`) or is uncertain
  (`sending`).
- What is uncertain cannot be made certain here; only the provider knows. If it takes an idempotency key, the call is
  repeated with the same key, which is the trigger's id: at least one call, one message. If it does not, the row becomes
  `unknown` and is not sent again: at most one message, and a person can look.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import io
import json
import signal
import socket
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from fastavro.schema import to_parsing_canonical_form

Trigger = dict[str, Any]
Send = Callable[[Trigger, str], None]
"""Hands a trigger to the provider with an idempotency key; returns once the provider has taken it.

A trigger of the channel `audience` says in `action` whether to add the customer or to remove them.
It raises NotSent where it is certain that nothing went out. Any other exception ends the sender: it is uncertain.
"""

SCHEMA = """
CREATE TABLE IF NOT EXISTS handled (
    trigger_id TEXT NOT NULL,
    action     TEXT NOT NULL,
    state      TEXT NOT NULL,               -- queued, sending, sent, unknown, suppressed, stale
    trigger    TEXT NOT NULL,               -- retract: noted, too_late; a needless remove: noted; newer: ignored
    deliveries INTEGER NOT NULL DEFAULT 1,  -- how often Kafka has delivered it
    calls      INTEGER NOT NULL DEFAULT 0,  -- how often the provider was called
    not_before INTEGER NOT NULL DEFAULT 0,
    owner      TEXT,                        -- which sender calls the provider
    sent_at    INTEGER,
    reported   INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (trigger_id, action)
);
CREATE INDEX IF NOT EXISTS in_work ON handled (state) WHERE state IN ('queued', 'sending');
CREATE INDEX IF NOT EXISTS to_report ON handled (reported) WHERE state = 'sent' AND reported = 0;
CREATE TABLE IF NOT EXISTS outbox (
    idempotency_key TEXT PRIMARY KEY,
    customer_id     TEXT NOT NULL,
    channel         TEXT NOT NULL,
    template        TEXT NOT NULL,
    content         TEXT NOT NULL
);
"""

UNDONE_BY = {"send": "retract", "add": "remove"}
"""What takes back a message, and who is removed from an audience again: a call of its own if they were added."""

LOCK_SECONDS = 30.0
RETRY_MS = 1_000
COMMIT_SECONDS = 1.0
BATCH = 500

_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_PROTOCOL)

_DELIVERED_AGAIN = (
    KafkaError._NO_OFFSET,
    KafkaError._STATE,
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
)
"""Offsets that were not committed because the partitions are another sender's now; the ledger knows the records."""


class NotSent(Exception):  # noqa: N818 (it is an answer of the provider)
    """The provider has certainly sent nothing, and may be asked again."""


class Ledger:
    """What was delivered and what became of it, shared by all senders of one consumer group.

    SQLite is enough for senders on one machine. On several, make it a table of the database that they share: all that
    is used of SQLite is a unique key and transactions.
    """

    def __init__(self, path: Path | str) -> None:
        # Every statement waits for others' locks this long. All that write begin with the lock for writing, so that
        # none has to be refused halfway because another has written meanwhile.
        self._db = sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None)
        self._prepare(time.monotonic() + LOCK_SECONDS)

    def _prepare(self, until: float) -> None:
        """Create what is missing; again while another opens the ledger, or recovers it after a crash.

        SQLite refuses a change of the journal's mode without waiting where two that wait would block each other.
        """
        while True:
            try:
                self._db.execute("PRAGMA synchronous = FULL")  # a power cut forgets nothing either
                if self._db.execute("PRAGMA journal_mode").fetchone() != ("wal",):
                    self._db.execute("PRAGMA journal_mode = WAL")
                self._db.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in _LOCKED or time.monotonic() > until:
                    raise
                time.sleep(0.05)
            else:
                return

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Keep all that is done inside, or nothing of it."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
        except BaseException:
            if self._db.in_transaction:  # a full disk has ended it already
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def take(self, triggers: Iterable[Trigger]) -> None:
        """Write down what Kafka delivered; a second delivery is counted and changes nothing else."""
        with self.transaction() as db:
            for trigger in triggers:
                once = (trigger["trigger_id"], trigger["action"])
                again = db.execute(
                    "UPDATE handled SET deliveries = deliveries + 1 WHERE trigger_id = ? AND action = ?", once
                )
                if not again.rowcount:
                    db.execute(
                        "INSERT INTO handled (trigger_id, action, state, trigger) VALUES (?, ?, ?, ?)",
                        (*once, _first_state(db, *once), json.dumps(trigger)),
                    )

    def claim(self, owner: str, now: Callable[[Trigger], int]) -> Trigger | None:
        """Mark the next message as being sent and return it, or None when there is none; what is stale is not sent."""
        while True:
            with self.transaction() as db:
                row = db.execute(
                    "SELECT rowid, trigger FROM handled AS one WHERE state = 'queued' AND not_before <= ? "
                    # Nobody is removed while another sender is still adding them.
                    "AND NOT (action = 'remove' AND EXISTS (SELECT 1 FROM handled AS other WHERE "
                    "other.trigger_id = one.trigger_id AND other.action = 'add' AND other.state = 'sending')) "
                    "ORDER BY rowid LIMIT 1",
                    (_now(),),
                ).fetchone()
                if row is None:
                    return None
                trigger: Trigger = json.loads(row[1])
                if now(trigger) < trigger["valid_until"] or trigger["action"] == "remove":  # that is never stale
                    db.execute(
                        "UPDATE handled SET state = 'sending', owner = ?, calls = calls + 1 WHERE rowid = ?",
                        (owner, row[0]),
                    )
                    return trigger
                db.execute("UPDATE handled SET state = 'stale' WHERE rowid = ?", (row[0],))

    def sent(self, trigger_id: str, at: int, action: str = "send") -> None:
        """Note that the provider has taken a message."""
        with self.transaction() as db:
            db.execute(
                "UPDATE handled SET state = 'sent', sent_at = ? WHERE trigger_id = ? AND action = ?",
                (at, trigger_id, action),
            )

    def not_sent(self, trigger_id: str, action: str = "send") -> None:
        """Note that the provider has certainly not taken a message: try again, unless it was retracted meanwhile."""
        with self.transaction() as db:
            state = "suppressed" if _is_undone(db, trigger_id, action) else "queued"
            db.execute(
                "UPDATE handled SET state = ?, not_before = ? WHERE trigger_id = ? AND action = ?",
                (state, _now() + RETRY_MS, trigger_id, action),
            )

    def resume(self, owner: str, *, repeat: bool) -> int:
        """Settle what this sender was sending when it died, and return how many; repeat them, or leave them unknown."""
        with self.transaction() as db:
            rows = db.execute(
                "SELECT trigger_id, action FROM handled WHERE state = 'sending' AND owner = ?", (owner,)
            ).fetchall()
            for once in rows:
                state = "queued" if repeat and not _is_undone(db, *once) else "unknown"
                db.execute("UPDATE handled SET state = ? WHERE trigger_id = ? AND action = ?", (state, *once))
        return len(rows)

    def to_report(self) -> list[tuple[Trigger, int]]:
        """Return messages whose sending was not yet reported, each with its instant."""
        rows = self._db.execute(
            "SELECT trigger, sent_at FROM handled WHERE state = 'sent' AND reported = 0 AND action = 'send' "
            "ORDER BY rowid LIMIT ?",
            (BATCH,),
        )
        return [(json.loads(trigger), sent_at) for trigger, sent_at in rows]

    def reported(self, trigger_ids: Iterable[str]) -> None:
        """Note that the sending of these was reported."""
        with self.transaction() as db:
            db.executemany(
                "UPDATE handled SET reported = 1 WHERE trigger_id = ? AND action = 'send'",
                [(trigger_id,) for trigger_id in trigger_ids],
            )

    def counts(self) -> Counter[str]:
        """Return how many rows there are in each state, as `action state`."""
        rows = self._db.execute("SELECT action || ' ' || state, count(*) FROM handled GROUP BY 1")
        return Counter(dict(rows.fetchall()))

    def close(self) -> None:
        """Close the database."""
        self._db.close()


def _first_state(db: sqlite3.Connection, trigger_id: str, action: str) -> str:
    """Return what is to be done about a record delivered for the first time; what undoes another stops it if it waits.

    Who was certainly not added to an audience need not be removed.
    """
    if action in UNDONE_BY:
        return "suppressed" if _is_undone(db, trigger_id, action) else "queued"
    if action not in UNDONE_BY.values():
        return "ignored"
    db.execute(
        "UPDATE handled SET state = 'suppressed' WHERE trigger_id = ? AND action IN ('send', 'add') "
        "AND state = 'queued'",
        (trigger_id,),
    )
    if action == "remove":
        never = db.execute(
            "SELECT 1 FROM handled WHERE trigger_id = ? AND action = 'add' AND state IN ('suppressed', 'stale')",
            (trigger_id,),
        )
        return "noted" if never.fetchone() else "queued"
    late = db.execute(
        "SELECT 1 FROM handled WHERE trigger_id = ? AND action = 'send' AND state IN ('sending', 'sent', 'unknown')",
        (trigger_id,),
    )
    return "too_late" if late.fetchone() else "noted"


def _is_undone(db: sqlite3.Connection, trigger_id: str, action: str) -> bool:
    once = (trigger_id, UNDONE_BY.get(action))
    found = db.execute("SELECT 1 FROM handled WHERE trigger_id = ? AND action = ?", once)
    return found.fetchone() is not None


class Schemas:
    """Triggers from bytes and events to bytes, with Confluent's framing and the schema files' own ids.

    With a schema registry, ask it instead: for the writer's schema by the id in front of a value, and for our id.
    """

    def __init__(self, folder: Path) -> None:
        files = sorted(folder.rglob("campaign_trigger.avsc"))  # those of older releases too
        if not files:
            raise SystemExit(f"there is no campaign_trigger.avsc in {folder}: name the folder with --schemas")
        self._ours = _schema(folder / "campaign_trigger.avsc")
        self._written = {_schema_id(schema): schema for schema in map(_schema, files)}
        self._engagement = _schema(folder / "email_engagement_event.avsc")
        self._frame = b"\0" + _schema_id(self._engagement)

    def read(self, message: Message) -> Trigger:
        """Return the trigger of a record; what cannot be read stops the sender, because skipping it would lose it."""
        value = message.value() or b""
        assert isinstance(value, bytes)
        writer = self._written.get(value[1:5]) if value[:1] == b"\0" else None
        if writer is None:
            where = f"{message.topic()}[{message.partition()}]@{message.offset()}"
            raise SystemExit(f"{where} was written with a schema that is not in schemas/: update that folder")
        trigger: Trigger = dict(schemaless_reader(io.BytesIO(value[5:]), writer, self._ours))  # type: ignore[arg-type]
        # An action that is newer than our schema would read as its default, `send`; the header has it as it is.
        headers: Any = message.headers() or ()
        for name, header in headers:
            if name == "ce_type":
                trigger["action"] = header.decode().rpartition(".")[2]
        return trigger

    def engagement(self, event: dict[str, Any]) -> bytes:
        """Return an event for email-engagement."""
        body = io.BytesIO()
        schemaless_writer(body, self._engagement, event)
        return self._frame + body.getvalue()


def _schema(path: Path) -> Any:
    return parse_schema(json.loads(path.read_text(encoding="utf-8")))


def _schema_id(schema: Any) -> bytes:
    return hashlib.sha256(to_parsing_canonical_form(schema).encode()).digest()[:4]


class Sender:
    """One process of a consumer group of senders."""

    def __init__(
        self,
        config: dict[str, str],
        ledger: Ledger,
        schemas: Schemas,
        send: Send,
        *,
        name: str,
        group: str = "sender",
        prefix: str = "",
        repeat: bool = False,
        replayed: bool = False,
    ) -> None:
        """Take `repeat` if the provider takes idempotency keys, `replayed` if the triggers are those of a replay."""
        self.ledger, self._schemas, self._send = ledger, schemas, send
        self._name, self._repeat, self._replayed = name, repeat, replayed
        self._triggers, self._engagement = f"{prefix}campaign-triggers", f"{prefix}email-engagement"
        self._consumer = Consumer(
            {
                "group.id": group,
                # After a restart its partitions are waiting for it; and two senders of one name are told.
                "group.instance.id": name,
                # A trigger is worth little when it is late: a dead sender's partitions go to another soon.
                "session.timeout.ms": "10000",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                **config,
            }
        )
        # The engine finds a customer by the partitioner of JVM clients, which is not librdkafka's default.
        self._producer = Producer({"partitioner": "murmur2_random", "enable.idempotence": True, **config})
        self._to_commit: float | None = None
        self.stopping = False

    def run(self, until_idle: float | None = None) -> None:
        """Read, send and report until `stopping`, or until nothing has come for some seconds."""
        uncertain = self.ledger.resume(self._name, repeat=self._repeat)
        if uncertain:
            doing = "sent again under the same keys" if self._repeat else "left as unknown: ask the provider"
            say(f"{uncertain} messages were being sent when {self._name} ended; they are {doing}")
        last = float("inf")  # waiting for partitions is not being idle

        def on_assign(*_: object) -> None:
            nonlocal last
            last = time.monotonic()

        self._consumer.subscribe([self._triggers], on_assign=on_assign)
        try:
            while not self.stopping:
                if self._read() + self._send_queued() + self._report():
                    last = time.monotonic()
                elif until_idle is not None and time.monotonic() - last > until_idle:
                    return
        finally:
            self._commit(due=True)
            self._consumer.close()

    def _read(self) -> int:
        """Move records from Kafka to the ledger; only then may Kafka forget them."""
        found = []
        for message in self._consumer.consume(BATCH, 0.1):
            error = message.error()
            if error is None:
                found.append(self._schemas.read(message))
            elif error.fatal() or not error.retriable():
                raise SystemExit(f"{self._triggers} cannot be read: {error.str()}")
        if found:
            self.ledger.take(found)
            self._to_commit = self._to_commit or time.monotonic() + COMMIT_SECONDS
        self._commit()
        return len(found)

    def _commit(self, *, due: bool = False) -> None:
        """Let Kafka know how far the ledger is, now and then: it only saves reading again."""
        if self._to_commit is None or (time.monotonic() < self._to_commit and not due):
            return
        self._to_commit = None
        try:
            self._consumer.commit(asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() not in _DELIVERED_AGAIN:
                raise

    def _send_queued(self) -> int:
        """Send what is queued, whoever read it; not for long, or Kafka would take us for dead."""
        done, until = 0, time.monotonic() + 1
        while not self.stopping and time.monotonic() < until:
            trigger = self.ledger.claim(self._name, self._now)
            if trigger is None:
                break
            done += 1
            trigger_id, action = trigger["trigger_id"], trigger["action"]
            try:
                self._send(trigger, f"{trigger_id}/remove" if action == "remove" else trigger_id)
            except NotSent as reason:
                say(f"{trigger_id} is tried again: {reason}")
                self.ledger.not_sent(trigger_id, action)
            else:
                self.ledger.sent(trigger_id, self._now(trigger), action)
        return done

    def _report(self) -> int:
        """Tell the engine what was sent; told twice it is one event, because the event's id is the same."""
        if self._replayed:
            return 0  # the ends of a replay's topics are fixed: nothing may be added to them
        if self._producer.flush(1):
            return 0  # the brokers are away; what they have not taken is still to be reported
        told: list[str] = []
        for trigger, sent_at in self.ledger.to_report():
            event = {
                "event_id": f"{trigger['trigger_id']}/sent",
                "customer_id": trigger["customer_id"],
                "event": "message.sent",
                "event_time": sent_at,
                "channel": trigger["channel"],
                "trigger_id": trigger["trigger_id"],
                "campaign": trigger["campaign"],
            }
            self._producer.produce(
                self._engagement,
                self._schemas.engagement(event),
                trigger["customer_id"].encode(),
                on_delivery=_noting(told, trigger["trigger_id"]),
            )
        self._producer.flush(10)
        if told:
            self.ledger.reported(told)
        return len(told)

    def _now(self, trigger: Trigger) -> int:
        return int(trigger["decided_at"]) if self._replayed else _now()


def _noting(told: list[str], trigger_id: str) -> Callable[[KafkaError | None, Message], None]:
    return lambda error, _: None if error is not None else told.append(trigger_id)


def _now() -> int:
    return time.time_ns() // 1_000_000


# --- providers: replace these -----------------------------------------------------------------------------------------


def filling(trigger: Trigger) -> dict[str, Any]:
    """Return what a template is filled with: what the message is about, and those of its facts that are known."""
    facts = trigger.get("facts") or {}  # a sender with an older schema has none, and looks up what is `requested`
    return {**trigger["content"], **{name: value for name, value in facts.items() if value}}


def outbox(ledger: Ledger) -> Send:
    """Return a provider that leaves messages in the ledger's table `outbox`; it takes idempotency keys."""

    def send(trigger: Trigger, idempotency_key: str) -> None:
        row = (trigger["customer_id"], trigger["channel"], trigger["template"], json.dumps(filling(trigger)))
        with ledger.transaction() as db:
            db.execute("INSERT OR IGNORE INTO outbox VALUES (?, ?, ?, ?, ?)", (idempotency_key, *row))

    return send


def to_stdout(trigger: Trigger, idempotency_key: str) -> None:
    """Print a message; like many providers it takes no idempotency key."""
    sys.stdout.write(f"{idempotency_key} {trigger['channel']} {trigger['template']} to {trigger['customer_id']}\n")
    sys.stdout.flush()


def provider(name: str, ledger: Ledger) -> Send:
    """Return the provider of that name, or the function that `module:function` names."""
    if name == "outbox":
        return outbox(ledger)
    if name == "stdout":
        return to_stdout
    module, _, function = name.partition(":")
    send: Send = getattr(importlib.import_module(module), function)
    return send


def say(line: str) -> None:
    """Tell the operator."""
    sys.stderr.write(f"sender: {line}\n")


def client_config(bootstrap_servers: str, file: Path | None) -> dict[str, str]:
    """Return the settings of both clients; TLS and passwords come from a file of `name=value` lines."""
    lines = file.read_text(encoding="utf-8").splitlines() if file else []
    pairs = (line.partition("=") for line in lines if line.strip() and not line.startswith("#"))
    return {"bootstrap.servers": bootstrap_servers, **{name.strip(): value.strip() for name, _, value in pairs}}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one sender until it is told to stop."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--bootstrap-servers", default="localhost:9092", metavar="HOST:PORT,...")
    parser.add_argument("--config", type=Path, help="a file of librdkafka's settings, such as security.protocol=ssl")
    parser.add_argument("--topic-prefix", default="", metavar="PREFIX")
    parser.add_argument("--group", default="sender")
    parser.add_argument("--name", default=socket.gethostname(), help="this process's own, the same at every start")
    parser.add_argument("--ledger", type=Path, default=Path("sender.db"), help="shared by the senders of a group")
    parser.add_argument("--schemas", type=Path, default=Path(__file__).resolve().parents[1] / "schemas")
    parser.add_argument("--provider", default="stdout", metavar="stdout|outbox|MODULE:FUNCTION")
    parser.add_argument("--idempotent", action="store_true", help="the provider takes idempotency keys")
    parser.add_argument("--replayed", action="store_true", help="a replay's triggers: its time, and no reports")
    parser.add_argument("--until-idle", type=float, metavar="SECONDS", help="end when nothing comes any more")
    given = parser.parse_args(arguments)

    ledger = Ledger(given.ledger)
    sender = Sender(
        client_config(given.bootstrap_servers, given.config),
        ledger,
        Schemas(given.schemas),
        provider(given.provider, ledger),
        name=given.name,
        group=given.group,
        prefix=given.topic_prefix,
        repeat=given.idempotent or given.provider == "outbox",
        replayed=given.replayed,
    )

    def stop(*_: object) -> None:
        sender.stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    sender.run(given.until_idle)
    say(", ".join(f"{count} {state}" for state, count in sorted(ledger.counts().items())) or "there was nothing to do")
    ledger.close()


if __name__ == "__main__":
    main()

"""The command `dead-letters`: what could not be used, why, and sending it again once that is mended."""

from __future__ import annotations

import base64
import json
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click

from orchestrator.cli.reading import as_json as json_option
from orchestrator.cli.reading import brokers, open_topics, progress_bars
from orchestrator.runtime.clock import now_ms
from orchestrator.runtime.dead_letters import REDRIVEN, Choice, DeadLetters, Letter, Place, Verdict
from orchestrator.runtime.errors import FINDINGS, USAGE, OperatorError
from orchestrator.runtime.topic_reader import Progress

HEX_BYTES = 512
"""Bytes of a value that are shown; --json has them all."""

Command = Callable[..., None]


@click.group("dead-letters", epilog="Example: orchestrator dead-letters list --bootstrap-servers localhost:9092")
def dead_letters() -> None:
    """List, show and redrive records that could not be used."""


def _filters(command: Command) -> Command:
    for option in (
        click.option("--until", metavar="TIME", help="Written before this instant, UTC."),
        click.option("--since", metavar="TIME", help="Written from this instant on, such as 2025-03-01T09:00, UTC."),
        click.option("--source", "sources", multiple=True, metavar="TOPIC", help="Only from this topic; repeatable."),
        click.option("--reason", "reasons", multiple=True, help="Only with this reason; repeatable."),
    ):
        command = option(command)
    return command


@dead_letters.command("list", epilog="Example: orchestrator dead-letters list --reason unknown_schema --last 3")
@_filters
@click.option("--last", type=click.IntRange(0), default=10, show_default=True, help="How many of the latest to show.")
@click.option("--show-keys", is_flag=True, help="Show the records' keys too, which are customers' ids.")
@brokers
@json_option
def list_letters(
    reasons: tuple[str, ...],
    sources: tuple[str, ...],
    since: str | None,
    until: str | None,
    last: int,
    show_keys: bool,
    bootstrap_servers: str | None,
    as_json: bool,
) -> None:
    """Count the dead letters by topic and reason, and show the latest of them.

    Without --show-keys nothing of a customer is shown.
    """
    letters = _open(bootstrap_servers)
    choice = _choice(letters, (), reasons, sources, since, until)
    counts: Counter[tuple[str, str]] = Counter()
    places: dict[Place, tuple[str, str]] = {}
    redriven: set[Place] = set()
    latest: deque[Letter] = deque(maxlen=last)
    with _bar(letters) as progress:
        for letter in letters.read(progress=progress):
            if letter.reason == REDRIVEN:
                redriven.add(letter.source)
            elif letter in choice:
                kind = (letter.source.topic, letter.reason)
                counts[kind] += 1
                places[letter.place] = kind
                _keep_latest(latest, letter, last)
    again = Counter(places[place] for place in redriven if place in places)
    if as_json:
        found = {
            "counts": [
                {"topic": topic, "reason": reason, "letters": count, "redriven": again[topic, reason]}
                for (topic, reason), count in sorted(counts.items())
            ],
            "latest": [_summary(letter, letter.place in redriven, show_keys=show_keys) for letter in latest],
        }
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for (topic, reason), count in sorted(counts.items()):
        note = f", {again[topic, reason]:,} redriven" if again[topic, reason] else ""
        click.echo(f"{count:>9,}  {topic}  {reason}{note}")
    click.echo(f"{counts.total():>9,}  dead letters" if counts else "no dead letters")
    for letter in latest:
        key = f"  key {_text(letter.key)}" if show_keys else ""
        mark = "  (redriven)" if letter.place in redriven else ""
        click.echo(f"\n{_instant(letter.at)}  {letter.place}  from {letter.source}{key}{mark}")
        click.echo(f"  {letter.reason}: {letter.detail}")


@dead_letters.command("show", epilog="Example: orchestrator dead-letters show purchases/3/1200")
@click.argument("place")
@brokers
@json_option
def show(place: str, bootstrap_servers: str | None, as_json: bool) -> None:
    """Show the dead letter at PLACE with all that is known of it, customer's data included.

    PLACE is topic/partition/offset: of the record that could not be used, or of its dead letter.
    """
    letters = _open(bootstrap_servers)
    wanted = letters.place(place)
    found: Letter | None = None
    redriven: set[Place] = set()
    for letter in letters.read([wanted]):
        if letter.reason == REDRIVEN:
            redriven.add(letter.source)
        elif wanted in (letter.place, letter.source):
            found = letter
    if found is None:
        raise OperatorError(f"there is no dead letter of {wanted}")
    decoded = letters.decoded(found)
    if as_json:
        value = found.value
        details = _summary(found, found.place in redriven, show_keys=True) | {
            "schema_id": found.schema_id,
            "headers": {name: _text(data) for name, data in found.headers.items()},
            "value_base64": None if value is None else base64.b64encode(value).decode(),
            "decoded": None if isinstance(decoded, str) else decoded,
            "undecodable": decoded if isinstance(decoded, str) else None,
        }
        click.echo(json.dumps(details, indent=2, ensure_ascii=False, default=_text))
        return
    click.echo("\n".join(_described(found, decoded, redriven=found.place in redriven)))


@dead_letters.command(
    "redrive", epilog="Example: orchestrator dead-letters redrive --reason unknown_schema --source purchases --apply"
)
@click.argument("places", nargs=-1, metavar="[PLACE]...")
@_filters
@click.option("--apply/--dry-run", "really", default=False, help="Do it; by default only what would happen is shown.")
@brokers
@json_option
def redrive(
    places: tuple[str, ...],
    reasons: tuple[str, ...],
    sources: tuple[str, ...],
    since: str | None,
    until: str | None,
    really: bool,
    bootstrap_servers: str | None,
    as_json: bool,
) -> None:
    """Send dead letters again to the topic they came from, each at most once ever.

    Key, value and headers are the original ones, the partition is that of the key. What would only become a dead letter
    again is not sent, nor is what was redriven before. Exits 1 if something chosen could not be sent.
    """
    letters = _open(bootstrap_servers)
    choice = _choice(letters, places, reasons, sources, since, until)
    act = letters.redrive if really else letters.judge
    with _bar(letters) as progress:
        verdicts = sorted(map(_light, act(choice, now_ms(), progress)), key=lambda verdict: verdict.letter.place)
    sent = [verdict for verdict in verdicts if verdict.partition is not None]
    if as_json:
        found = [
            _summary(verdict.letter, verdict.redriven_before)
            | {"to_partition": verdict.partition, "refusal": verdict.refusal or None}
            for verdict in verdicts
        ]
        click.echo(json.dumps({"applied": really, "letters": found}, indent=2, ensure_ascii=False))
    else:
        for verdict in verdicts:
            where, source = verdict.letter.place, verdict.letter.source
            if verdict.partition is None:
                click.echo(f"{where}  from {source}  stays: {verdict.refusal}")
            else:
                click.echo(f"{where}  from {source}  to {source.topic}, partition {verdict.partition}")
        doing = "were sent" if really else "would be sent; --apply sends them"
        click.echo(f"{len(sent):,} of {len(verdicts):,} dead letters {doing}")
    if any(verdict.partition is None and not verdict.redriven_before for verdict in verdicts):
        raise click.exceptions.Exit(FINDINGS)


def _open(bootstrap_servers: str | None) -> DeadLetters:
    settings, topics, _ = open_topics(bootstrap_servers)
    return DeadLetters(settings, topics)


@contextmanager
def _bar(letters: DeadLetters) -> Iterator[Progress]:
    with progress_bars() as progress_of:
        yield progress_of(letters.topics.dead_letters.name) or (lambda _behind, _total: None)


def _choice(
    letters: DeadLetters,
    places: tuple[str, ...],
    reasons: tuple[str, ...],
    sources: tuple[str, ...],
    since: str | None,
    until: str | None,
) -> Choice:
    return Choice(
        frozenset(map(letters.place, places)),
        frozenset(reasons),
        frozenset(map(letters.topic_name, sources)),
        None if since is None else _milliseconds(since),
        None if until is None else _milliseconds(until),
    )


def _milliseconds(text: str) -> int:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        message = f"'{text}' is no time, write it like 2025-03-01 or 2025-03-01T09:00, UTC"
        raise OperatorError(message, exit_code=USAGE) from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def _keep_latest(latest: deque[Letter], letter: Letter, last: int) -> None:
    """Keep the letters last written, in order; partitions are read side by side."""
    if len(latest) < last or (latest and letter.at >= latest[0].at):
        kept = sorted([*latest, letter], key=lambda one: one.at)[-last:] if last else []
        latest.clear()
        latest.extend(kept)


def _light(verdict: Verdict) -> Verdict:
    """Return a verdict without the record's bytes: there may be many."""
    letter = verdict.letter
    bare = Letter(
        letter.place, letter.at, letter.source, letter.reason, letter.detail, letter.schema_id, None, None, {}
    )
    return Verdict(bare, verdict.partition, verdict.refusal, verdict.redriven_before)


def _summary(letter: Letter, redriven: bool, *, show_keys: bool = False) -> dict[str, Any]:
    return {
        "place": str(letter.place),
        "written_at": _instant(letter.at),
        "source": str(letter.source),
        "reason": letter.reason,
        "detail": letter.detail,
        "redriven": redriven,
        **({"key": _text(letter.key)} if show_keys else {}),
    }


def _described(letter: Letter, decoded: Any, *, redriven: bool) -> list[str]:
    """Return a letter as its reader mends it from."""
    lines = [
        f"dead letter  {letter.place}, written {_instant(letter.at)}{', redriven' if redriven else ''}",
        f"record       {letter.source}",
        f"reason       {letter.reason}: {letter.detail}",
        f"schema id    {'none' if letter.schema_id is None else letter.schema_id}",
        f"key          {_text(letter.key)}",
        *(f"header       {name}: {_text(data)}" for name, data in letter.headers.items()),
    ]
    if not isinstance(decoded, str):
        return [*lines, "value", *json.dumps(decoded, indent=2, ensure_ascii=False, default=_text).splitlines()]
    lines.append(f"value        cannot be read today: {decoded}")
    return lines if letter.value is None else [*lines, *_hex(letter.value)]


def _hex(value: bytes) -> Iterator[str]:
    for start in range(0, min(len(value), HEX_BYTES), 16):
        part = value[start : start + 16]
        shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        yield f"  {start:08x}  {part.hex(' '):47}  {shown}"
    if len(value) > HEX_BYTES:
        yield f"  ... and {len(value) - HEX_BYTES:,} bytes more"


def _text(data: object) -> str | None:
    """Return bytes as text where they are printable text, else as 0x..."""
    if not isinstance(data, bytes):
        return None if data is None else str(data)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return f"0x{data.hex()}"
    return text if text.isprintable() else f"0x{data.hex()}"


def _instant(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

"""One id that never stops: `python -m bench.bot [--events N] [--json]`.

Prints what it costs in state and in CPU from the first events to the last, and whether its neighbours in the partition
are decided in the same steps. A step is what the bot does in a minute.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median

from bench.harness.one_partition import (
    BEGIN,
    CLICKS,
    ENGAGEMENT,
    PROFILES,
    PURCHASES,
    OnePartition,
    click,
    engagement,
    order,
    profile,
)
from orchestrator.events import HOUR, MINUTE

STEP_EVENTS = 1_000
STEP_MS = 60_000
NEIGHBOURS_PER_STEP = 20
BOT = "bot"
START = BEGIN + 10 * HOUR
"""In the morning, when messages may go out."""

ABANDONED_MS = HOUR + MINUTE
"""After that a cart is decided, stragglers waited for; all neighbours fill theirs at the beginning of their step."""

Records = dict[str, list[tuple[bytes | None, bytes | None]]]


def misbehave(number: int, at: int) -> tuple[str, bytes]:
    """Return the next of the bot's events: everything that leaves a trace, every time with another id."""
    kind = number % 10
    if kind < 5:
        return CLICKS, click(BOT, at, number, cart=f"cart-{number}")
    if kind < 7:
        return PURCHASES, order(BOT, at, number)
    if kind < 9:
        return ENGAGEMENT, engagement(BOT, at, number, "message.sent", f"channel-{number % 3}")
    return ENGAGEMENT, engagement(BOT, at, number, "customer.unsubscribed", f"channel-{number}")


def run(events: int, folder: Path) -> dict[str, float]:
    """Let the bot do so many things, and return the figures."""
    one = OnePartition(folder)
    one.step(BEGIN, {PROFILES: [(BOT.encode(), profile(BOT, BEGIN))]})
    one.commit()
    costs: list[float] = []
    sizes: list[int] = []
    overdue = due_neighbours = 0
    for step in range(events // STEP_EVENTS):
        begin = START + step * STEP_MS
        records: Records = {PROFILES: [], CLICKS: [], PURCHASES: [], ENGAGEMENT: []}
        for place in range(STEP_EVENTS):
            topic, value = misbehave(step * STEP_EVENTS + place, begin + place)
            records[topic].append((BOT.encode(), value))
        for place in range(NEIGHBOURS_PER_STEP):
            name = f"n{step}-{place}"
            records[PROFILES].append((name.encode(), profile(name, begin)))
            records[CLICKS].append((name.encode(), click(name, begin, 0)))
        started = time.process_time()
        one.step(begin + STEP_MS - 1, records)
        one.commit()
        costs.append((time.process_time() - started) / (STEP_EVENTS + 2 * NEIGHBOURS_PER_STEP) * 1e6)
        stored = one.store.get(BOT.encode())
        assert stored is not None
        sizes.append(len(stored.state))
        overdue += len(one.store.due(0, begin + STEP_MS - 1))
        if step * STEP_MS >= ABANDONED_MS:
            due_neighbours += NEIGHBOURS_PER_STEP
    one.partition.close()
    tenth = max(1, len(costs) // 10)
    return {
        "events": events,
        "state_bytes_largest": max(sizes),
        "state_bytes_last": sizes[-1],
        "cpu_us_per_event_first_tenth": median(costs[tenth : 2 * tenth] or costs),
        "cpu_us_per_event_last_tenth": median(costs[-tenth:]),
        "neighbours_due": due_neighbours,
        "neighbours_decided": len(one.decided - {BOT.encode()}),
        "overdue_timers_after_a_step": overdue,
    }  # fmt: skip


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = run(options.events, Path(folder) / "0")
    if options.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name.replace('_', ' '):32} {value:14,.1f}")


if __name__ == "__main__":
    main()

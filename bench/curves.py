"""Measures how the cost of an event grows with all that can grow: `python -m bench.curves [--only NAME] [--quick]`.

The real intake, partition, engine, store and encoders without a broker, each point in a process of its own, the best
of some rounds. Figures land in bench/results/curves.json and .md, the plot in docs/images/scaling.svg.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness import seed
from bench.harness.backlog import Backlog
from bench.harness.machine import RESULTS, ROOT, about, machine, table, write
from bench.harness.stream import Seeded, seeded

PLOT = ROOT / "docs" / "images" / "scaling.svg"
UNIT = "CPU-µs per event"
CUSTOMERS = 1_000
"""Some 10,000 events."""


@dataclass(frozen=True, slots=True)
class Curve:
    """What grows, and its values."""

    title: str
    values: tuple[int, ...]


CURVES = {
    "moments": Curve("moments that an event concerns", (1, 5, 20, 50, 100)),
    "idle": Curve("moments that it does not concern", (1, 5, 20, 50, 100, 500)),
    "customers": Curve("customers, the same events", (1_000, 10_000, 100_000)),
    "state": Curve("bytes of state", (0, 4, 16, 64, 200)),
    "timers": Curve("timers pending", (1_000, 10_000, 100_000)),
    "partitions": Curve("partitions in a process", (1, 4, 16, 48)),
    "processes": Curve("processes at the same time", (1, 2, 4)),
}
"""State grows by orders in the past; its points are shown by the bytes they come to."""


def definitions(folder: Path, touched: int, idle: int = 0) -> Path:
    """Write a pack with so many moments that carts start, and so many that nothing starts; each has a campaign."""
    target = folder / "pack"
    target.mkdir()
    (target / "policy.yaml").write_text((ROOT / "bench/definitions/one_moment/policy.yaml").read_text())
    moments, campaigns = ["moments:"], ["campaigns:"]
    for number in range(touched + idle):
        event, ends = (
            ("cart.item_added", "order.placed") if number < touched else ("checkout.started", "message.clicked")
        )
        moments += [
            f"  - moment: m{number}",
            f'    say: "Nothing bought for {60 + number} minutes"',
            f"    starts_on: {{ event: {event} }}",
            f"    restarts_on: {{ event: {event} }}",
            f"    unless: {{ event: {ends}, within: {60 + number}m }}",
            "    lasts: 24h",
        ]
        campaigns += [
            f"  - campaign: c{number}",
            f"    when: m{number}",
            "    send: { channel: email, template: t }",
            "    measure: { objective: margin, for: 1d }",
            "    control: 1%",
        ]
    (target / "moments.yaml").write_text("\n".join(moments) + "\n")
    (target / "campaigns.yaml").write_text("\n".join(campaigns) + "\n")
    return target


def prepared(folder: Path, name: str, value: int, customers: int) -> list[Seeded]:
    """Return what one point decides: a partition, or several with a share of the customers each."""
    twenty = ROOT / "bench" / "definitions" / "twenty_moments"
    backlog = Backlog(customers)
    if name in ("moments", "idle"):
        pack = definitions(folder, value if name == "moments" else 1, value if name == "idle" else 0)
        return [seeded(folder, pack, backlog, past=seed.profile_only)]
    if name == "customers":
        pack = ROOT / "bench" / "definitions" / "one_moment"
        return [seeded(folder, pack, backlog, past=seed.profile_only, others=max(0, value - customers))]
    if name == "state":
        return [seeded(folder, twenty, backlog, past=seed.with_orders(value) if value else seed.profile_only)]
    if name == "timers":  # everybody's birthday is waited for, at some other day
        pack = ROOT / "deploy" / "definitions" / "retail"
        return [seeded(folder, pack, backlog, past=seed.profile_only, others=max(0, value - customers))]
    if name == "partitions":
        share = Backlog(max(1, customers // value))
        return [seeded(folder / str(number), twenty, share) for number in range(value)]
    return [seeded(folder, twenty, backlog)]


def point(name: str, value: int, customers: int) -> dict[str, float]:
    """Decide one point in this process; return CPU-µs per event, events, and bytes of state."""
    with tempfile.TemporaryDirectory(prefix="orchestrator-curve-") as place:
        ready = prepared(Path(place), name, value, customers)
        started = time.process_time()
        for one in ready:
            one.decide()
        spent = time.process_time() - started
        events = sum(one.events for one in ready)
        return {"cost": spent / events * 1e6, "events": events, "state": ready[0].state_bytes}


def _process(name: str, value: int, customers: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench.curves", "--point", json.dumps([name, value, customers])]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def measured(name: str, value: int, customers: int, rounds: int) -> tuple[float, float]:
    """Return where a point lies: what grew, and the best of some rounds."""
    count = value if name == "processes" else 1
    found: list[tuple[float, float]] = []
    for _ in range(rounds):
        running = [_process(name, value, customers) for _ in range(count)]
        results: list[dict[str, float]] = [json.loads(one.communicate()[0]) for one in running]
        first = results[0]
        found.append((first["state"] if name == "state" else value, sum(one["cost"] for one in results) / count))
    return min(found, key=lambda one: one[1])


# --- the plot ---------------------------------------------------------------------------------------------------------

WIDTH, HEIGHT, LEFT, TOP, BOTTOM, ACROSS = 300, 210, 46, 34, 36, 3


def plot(found: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """Return an SVG with a panel for each curve: what grows on a logarithmic axis, the cost from zero."""
    rows = math.ceil(len(found) / ACROSS)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH * ACROSS} {HEIGHT * rows}" '
        'font-family="sans-serif" font-size="11" fill="#333">',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    for place, (name, points) in enumerate(found.items()):
        parts.append(f'<g transform="translate({place % ACROSS * WIDTH},{place // ACROSS * HEIGHT})">')
        parts += _panel(CURVES[name], points)
        parts.append("</g>")
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(curve: Curve, points: Sequence[Sequence[float]]) -> list[str]:
    wide, high = WIDTH - LEFT - 24, HEIGHT - TOP - BOTTOM
    least, most = (math.log10(max(1, end)) for end in (points[0][0], points[-1][0]))
    top = max(cost for _, cost in points) * 1.15
    spots = [
        (LEFT + wide * (math.log10(max(1, x)) - least) / (most - least or 1), TOP + high * (1 - y / top), x, y)
        for x, y in points
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in spots)
    base = TOP + high
    parts = [
        f'<text x="{LEFT}" y="16" font-weight="bold">{curve.title}</text>',
        f'<text x="{LEFT}" y="29" fill="#777">{UNIT}</text>',
        f'<path d="M{LEFT},{TOP} V{base} H{LEFT + wide}" fill="none" stroke="#999"/>',
        f'<polyline points="{line}" fill="none" stroke="#2166ac" stroke-width="2"/>',
    ]
    for x, y, value, cost in spots:
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#2166ac"/>')
        parts.append(f'<text x="{x:.1f}" y="{y - 7:.1f}" text-anchor="middle">{cost:,.0f}</text>')
        parts.append(f'<text x="{x:.1f}" y="{base + 15}" text-anchor="middle" fill="#777">{value:,.0f}</text>')
    return parts


def main() -> None:
    """Measure the curves that are asked for, keep them with those measured before, and plot them all."""
    parser = argparse.ArgumentParser(prog="python -m bench.curves", description=__doc__)
    parser.add_argument("--only", action="append", choices=CURVES)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="few customers, one round: whether it works, not how fast")
    parser.add_argument("--point", type=json.loads, help="one point in this process, for the measurement")
    options = parser.parse_args()
    if options.point is not None:
        print(json.dumps(point(*options.point)))
        return
    kept = RESULTS / "curves.json"
    before: dict[str, Any] = json.loads(kept.read_text())["curves"] if kept.exists() else {}
    facts = machine()
    customers, rounds = (100, 1) if options.quick else (CUSTOMERS, options.rounds)
    for name in options.only or CURVES:
        before[name] = [measured(name, value, customers, rounds) for value in CURVES[name].values]
        for value, cost in before[name]:
            print(f"{CURVES[name].title}: {value:,.0f} -> {cost:,.1f} {UNIT}", flush=True)
    if options.quick:
        return
    found = {name: before[name] for name in CURVES if name in before}
    rows = [[CURVES[name].title, f"{x:,.0f}", f"{y:,.1f} {UNIT}"] for name in found for x, y in found[name]]
    text = table(["what grows", "to", "cost"], rows, left=1)
    write("curves", {"facts": facts, "curves": found}, f"# How the cost of an event grows\n\n{text}\n{about(facts)}")
    PLOT.write_text(plot(found))
    print(f"written to {PLOT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

"""Draws the dashboard: `python -m tests.deploy.picture` renews docs/images/dashboard.svg.

Two engines and the control role decide a year of customers on Apache Kafka, a real Prometheus scrapes them, and each
panel of dashboard.json is drawn from what that Prometheus answers to the panel's own queries. One engine is killed on
the way and comes back. It is not Grafana that draws, which is why the picture says so.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.demo.world import World
from orchestrator.events import DAY
from orchestrator.runtime.embedded_broker import free_ports
from tests.deploy import helm
from tests.deploy.prometheus import NOT_HERE, Prometheus, filled, serving
from tests.deploy.workers import Worker, decisions_read, with_strays
from tests.kafka.broker import KafkaBroker
from tests.kafka.workers import Run, wait_for

DASHBOARD = helm.ROOT / "deploy" / "grafana" / "dashboard.json"
PICTURE = helm.ROOT / "docs" / "images" / "dashboard.svg"
HOUSEHOLDS, DAYS = 1_200, 365
SCALE_X, SCALE_Y, GAP, HEAD = 42.0, 19.0, 3.0, 46.0
POINTS, SHOWN = 120, 5
COLOURS = ("#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#b877d9", "#37872d", "#fade2a")
Drawn = tuple[str, list[tuple[float, float]]]
"""The name of a line, and its points."""


class Span(NamedTuple):
    """From when to when the picture tells."""

    start: float
    end: float


@contextmanager
def recorded(folder: Path, binary: str) -> Iterator[tuple[Prometheus, Span]]:
    """Let workers decide, and yield the Prometheus that has seen them, with the time to be shown."""
    port, *ports = free_ports(4)
    with ExitStack() as stack:
        kafka = stack.enter_context(KafkaBroker())
        run = Run("seen", kafka.bootstrap, folder, "picture-", {"STATIC_MEMBERSHIP": "false", "COMMIT_INTERVAL": "1s"})
        world = World(7, households=HOUSEHOLDS, days=DAYS)
        run.replay(with_strays(world), world.ends_at, barrier_every=DAY // 24)
        targets = {"engine": ports[:2], "control": ports[2:]}
        prometheus = stack.enter_context(serving(binary, folder, port, targets))
        wait_for(lambda: is_up(prometheus), "Prometheus")
        start = time.time()

        def begin(ordinal: int, role: str = "engine") -> Worker:
            given = run.environment(ordinal, WEB_PORT=str(ports[ordinal]), SESSION_TIMEOUT="6s")
            return stack.enter_context(Worker(role, given, run.folder / f"{role}-{ordinal}.log"))

        first, second, reading = begin(0), begin(1), begin(2, "control")
        total = run.barriers()
        first.until(lambda: run.decided() > total * 0.4, "a part of the year", 900)
        second.kill()
        first.until(lambda: run.decided() > total * 0.55, "another part of it", 900)
        begin(1)
        first.until(lambda: run.decided() >= total, "the end of the year", 900)
        expected = len(run.records("decisions"))
        reading.until(lambda: decisions_read(ports[2]) >= expected, "control to read every decision", 300)
        time.sleep(5)
        yield prometheus, Span(start, time.time())


def is_up(prometheus: Prometheus) -> bool:
    """Return whether it answers."""
    try:
        prometheus.query("1")
    except OSError:
        return False
    return True


def lines(prometheus: Prometheus, panel: dict[str, Any], span: Span) -> list[Drawn]:
    """Return what a panel shows: the largest lines, by name."""
    step = (span.end - span.start) / POINTS
    found: list[Drawn] = []
    for target in panel["targets"]:
        answer = prometheus.ask(
            "query_range",
            query=filled(target["expr"], "10s", "10s"),
            start=str(span.start),
            end=str(span.end),
            step=str(step),
        )
        for series in answer["result"]:
            name = target["legendFormat"]
            for label, value in series["metric"].items():
                name = name.replace(f"{{{{{label}}}}}", value)
            points = [(float(at), float(value)) for at, value in series["values"] if value != "NaN"]
            if points:
                found.append((name, points))
    return sorted(sorted(found, key=lambda line: -max(value for _, value in line[1]))[:SHOWN])


def shown(value: float, unit: str) -> str:
    """Return a value as people read it."""
    if unit == "percentunit":
        return f"{value:.1%}" if value < 0.1 else f"{value:.0%}"
    if unit == "s":
        if abs(value) >= 2 * 86_400:
            return f"{value / 86_400:,.0f} d"
        return f"{value:.0f} s" if value >= 10 or value == 0 else f"{value * 1000:.0f} ms"
    suffix = {"bytes": "B", "reqps": "/s", "ops": "/s"}.get(unit, "")
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.1f} {letter}{suffix}"
    return f"{value:.3g}{' ' if suffix == 'B' else ''}{suffix}"


def chart(found: Sequence[Drawn], unit: str, span: Span, x: float, y: float, width: float, height: float) -> str:
    """Return the lines of a panel with three values of its axis and a legend below."""
    left, bottom = x + 46, y + height - 16
    top = max((value for _, points in found for _, value in points), default=1.0) or 1.0
    least = min(0.0, min((value for _, points in found for _, value in points), default=0.0))
    across, up = (x + width - 8 - left) / (span.end - span.start), (bottom - y - 6) / (top - least)
    parts = []
    for share in (0.0, 0.5, 1.0):
        at = bottom - (bottom - y - 6) * share
        mark = shown(least + (top - least) * share, unit)
        parts.append(f'<path d="M{left:.0f} {at:.1f}H{x + width - 8:.0f}" stroke="#2c3235"/>')
        parts.append(f'<text x="{left - 4:.0f}" y="{at + 3:.1f}" text-anchor="end" class="s">{mark}</text>')
    at = left
    for number, (name, points) in enumerate(found):
        colour = COLOURS[number % len(COLOURS)]
        path, before = "", 0.0
        for when, value in points:
            pen = "L" if when - before < 2 * (span.end - span.start) / POINTS else "M"  # a gap stays one
            path += f"{pen}{left + (when - span.start) * across:.0f} {bottom - (value - least) * up:.1f}"
            before = when
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.2"/>')
        if at + 4.6 * len(name) + 12 < x + width:
            parts.append(f'<rect x="{at:.0f}" y="{bottom + 7:.1f}" width="8" height="2.5" fill="{colour}"/>')
            parts.append(f'<text x="{at + 11:.0f}" y="{bottom + 11.5:.1f}" class="s">{escape(name)}</text>')
        at += 4.6 * len(name) + 20
    return "".join(parts)


def drawing(prometheus: Prometheus, span: Span) -> str:
    """Return the dashboard as SVG."""
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    parts, bottom = [], 0.0
    for panel in panels:
        at = panel["gridPos"]
        x, y = at["x"] * SCALE_X + GAP, at["y"] * SCALE_Y + HEAD + GAP
        width, height = at["w"] * SCALE_X - 2 * GAP, at["h"] * SCALE_Y - 2 * GAP
        bottom = max(bottom, y + height)
        if panel["type"] == "row":
            parts.append(f'<text x="{x + 4}" y="{y + 12}" class="r">▾ {escape(panel["title"])}</text>')
            continue
        unit = panel.get("fieldConfig", {}).get("defaults", {}).get("unit", "short")
        parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="2" fill="#181b1f"/>')
        parts.append(f'<text x="{x + 8}" y="{y + 15}" class="t">{escape(panel["title"])}</text>')
        found = lines(prometheus, panel, span)
        if not found:
            missing = "no kubelet in this run" if NOT_HERE in str(panel["targets"]) else "no data"
            parts.append(f'<text x="{x + width / 2}" y="{y + height / 2 + 6}" text-anchor="middle">{missing}</text>')
        elif panel["type"] == "stat":
            value = shown(found[0][1][-1][1], unit)
            parts.append(
                f'<text x="{x + width / 2}" y="{y + height / 2 + 20}" text-anchor="middle" class="b">{value}</text>'
            )
        else:
            parts.append(chart(found, unit, span, x, y + 22, width, height - 24))
    width, height = 24 * SCALE_X, bottom + GAP
    title = (
        "Drawn from the answers of a real Prometheus to the queries of dashboard.json, not by Grafana: a replay of "
        f"{DAYS} days of {HOUSEHOLDS:,} households in {span.end - span.start:.0f} s. An engine was killed on the way; "
        "clocks, and so all lag, are those of 2017."
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img">\n'
        "<style>text{font:10px sans-serif;fill:#ccccdc}.t{font-weight:600}.s{font-size:8.5px;fill:#9fa2ab}"
        ".r{font-size:12px;font-weight:600}.b{font-size:24px;font-weight:600;fill:#73bf69}</style>\n"
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#0b0c0e"/>\n'
        f'<text x="8" y="18" class="r">Journey Orchestrator</text><text x="8" y="36" class="s">{title}</text>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def main() -> None:
    """Run everything, and write the picture."""
    binary = shutil.which("prometheus")
    if binary is None:
        sys.exit("there is no prometheus; Debian's package of that name has it")
    with tempfile.TemporaryDirectory() as folder, recorded(Path(folder), binary) as (prometheus, span):
        PICTURE.write_text(drawing(prometheus, span), encoding="utf-8")
    print(f"wrote {PICTURE.relative_to(helm.ROOT)}")


if __name__ == "__main__":
    main()

"""Print what the demo's world holds and what generating it costs: `python -m bench.world [--households N]`."""

from __future__ import annotations

import argparse
import resource
import time
from collections import Counter

from orchestrator.demo.world import World


def main() -> None:
    """Generate one world and print its counts, its CPU-seconds and its peak memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--households", type=int)
    parser.add_argument("--days", type=int)
    options = parser.parse_args()

    started = time.process_time()
    world = World(options.seed, options.households, options.days)
    read = time.process_time() - started
    started = time.process_time()
    produced = sum(1 for _ in world.stream())
    generated = time.process_time() - started

    names: Counter[tuple[str, str]] = Counter()
    for _, topic, _, record in world.stream():
        names[topic, record.get("event", "-")] += 1
    topics: Counter[str] = Counter()
    for (topic, _), count in names.items():
        topics[topic] += count
    for topic, count in sorted(topics.items()):
        print(f"{topic:24}{'':24}{count:>10,}")
        for name in sorted(name for of, name in names if of == topic and name != "-"):
            print(f"{'':24}{name:24}{names[topic, name]:>10,}")
    print("planted carts", world.truth.counts())
    print(f"records {produced:,}, customers {len(world.customers):,}")
    each = generated / produced * 1e6
    print(f"reading {read:.1f} CPU-s, generating {generated:.1f} CPU-s, {each:.1f} CPU-µs a record")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()

"""The page about scale follows from the measured costs, and its arithmetic goes the right way."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.scale import PAGE, REPLICAS, Load, co_partitioned, kept, needs, renewed

MANY = Load("many", 400e6, 400_000)


def test_the_page_is_current() -> None:
    """Its tables are those of the costs that were written down last."""
    text = PAGE.read_text(encoding="utf-8")

    assert text == renewed(text, kept()), "run python -m bench.scale"


def test_twice_the_events_need_twice_the_engines_and_a_power_of_two_of_partitions() -> None:
    """And each of them has half the customers to restore."""
    one, two = (needs(kept(), replace(MANY, events=events), co_partitioned()) for events in (4e5, 8e5))

    assert two.pods == pytest.approx(2 * one.pods, abs=1)
    assert two.partitions == 2 * one.partitions
    assert two.restore_one == pytest.approx(one.restore_one / 2, rel=0.02)
    assert two.topic_replicas == 2 * one.topic_replicas == 2 * one.partitions * co_partitioned() * REPLICAS


def test_twice_the_customers_need_twice_the_disks_and_twice_the_time() -> None:
    """The same engines, for the same events."""
    one, two = (needs(kept(), replace(MANY, customers=customers), co_partitioned()) for customers in (4e8, 8e8))

    assert two.pods == one.pods
    for name in ("changelog", "state_per_pod", "restore_one", "restore_partition"):
        assert getattr(two, name) == pytest.approx(2 * getattr(one, name))


def test_little_needs_three_engines_and_the_default_partitions() -> None:
    """One may be lost, and one restarted."""
    least = needs(kept(), Load("little", 1_000, 1), co_partitioned())

    assert (least.pods, least.partitions) == (3, 48)

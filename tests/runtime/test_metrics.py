"""What the engine tells of itself is true, cheap to tell, and the same in the table, the code and the scrape."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator.runtime import census
from orchestrator.runtime.barriers import NoBarriers
from orchestrator.runtime.clock import now_ms
from orchestrator.runtime.loop import Loop, LoopConfig
from orchestrator.runtime.metrics import METRICS, LoopCollector
from orchestrator.runtime.tally import Histogram, Tally
from tests.builders import ANA, instant
from tests.runtime.messages import CLICKSTREAM, INPUTS, PROFILES, PURCHASES, Bench, bought, item_added, profile, to

Numbers = dict[tuple[str, ...], float]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Return a partition in which nothing has happened."""
    bench = Bench(tmp_path / "0")
    yield bench
    bench.partition.close()


def loop_of(bench: Bench, ends: dict[str, int] | None = None) -> Loop:
    """Return what a scrape sees of a loop around one partition; `ends` are by default what was read."""
    bench.partition.ends = ends or bench.offsets
    loop = SimpleNamespace(
        tally=bench.tally,
        partitions={7: bench.partition},
        config=SimpleNamespace(inputs=INPUTS),
        commits=0,
        aborts=0,
        rebalances=0,
        restoring=0,
        restored=0,
        definitions="v1",
    )
    return cast("Loop", loop)


def scrape(bench: Bench, ends: dict[str, int] | None = None) -> Numbers:
    """Return every sample by its name and the values of its labels."""
    collector = LoopCollector(lambda: loop_of(bench, ends))
    return {
        (sample.name, *sample.labels.values()): sample.value
        for metric in collector.collect()
        for sample in metric.samples
    }


def test_the_table_is_complete_both_ways(bench: Bench) -> None:
    """A scrape has every metric of the table with its labels, and no other."""
    bench.step("09:00", [to(ANA, CLICKSTREAM, item_added("08:59"))])

    found = {metric.name: metric for metric in LoopCollector(lambda: loop_of(bench)).collect()}
    assert list(found) == [metric.name for metric in METRICS]
    for metric in METRICS:
        assert (found[metric.name].type, found[metric.name].documentation) == (metric.kind, metric.help)
        for sample in found[metric.name].samples:
            assert set(sample.labels) - {"le"} == set(metric.labels)


def test_metrics_keep_to_the_conventions() -> None:
    """Base units, a sentence, nobody's name, and a partition only on what does not add up for ever."""
    labels = {label for metric in METRICS for label in metric.labels}

    assert labels <= {
        "partition", "topic", "reason", "campaign", "moment", "state", "outcome", "version", "python", "librdkafka",
    }  # fmt: skip
    assert [metric.name for metric in METRICS if not metric.help.endswith(".")] == []
    assert [metric.name for metric in METRICS if "partition" in metric.labels and metric.kind != "gauge"] == []
    assert len({metric.sample for metric in METRICS}) == len(METRICS)


def test_late_events_are_told_from_those_that_are_too_late(bench: Bench) -> None:
    """By the definitions' own lateness; a profile is not late, it says since when something is so."""
    bench.step("5d 09:00", [to(ANA, PROFILES, profile())])
    bench.step("5d 10:00", [
        to(ANA, PROFILES, profile("5d 08:00")),
        to(ANA, CLICKSTREAM, item_added("5d 09:30")),
        to(ANA, CLICKSTREAM, item_added("5d 08:59")),
        to("ben", PURCHASES, bought("-90d 09:00", "ben")),
    ])  # fmt: skip

    assert bench.tally.late == {(CLICKSTREAM, "accepted"): 1, (PURCHASES, "too_late"): 1}


def test_a_repeated_event_is_counted(bench: Bench) -> None:
    """In the same step, in a later one, alone and among others."""
    first, second = item_added("09:00"), item_added("09:01")
    bench.step("09:30", [to(ANA, CLICKSTREAM, first)])
    assert bench.tally.duplicates == 0
    bench.step("09:31", [to(ANA, CLICKSTREAM, first)])
    assert bench.tally.duplicates == 1
    bench.step("09:32", [to(ANA, CLICKSTREAM, second), to(ANA, CLICKSTREAM, first), to(ANA, CLICKSTREAM, second)])
    assert bench.tally.duplicates == 3
    bench.step("09:33", [to(ANA, PROFILES, profile()), to(ANA, CLICKSTREAM, item_added("09:02"))])
    assert bench.tally.duplicates == 3
    bench.step("09:34", [to(ANA, PROFILES, profile())])
    assert bench.tally.duplicates == 3


def test_moments_are_counted_by_how_they_ended(bench: Bench) -> None:
    """By name and state; the name alone is the sum."""
    bench.step("08:00", [to(name, PROFILES, profile(customer=name)) for name in (ANA, "ben")])
    bench.step("09:00", [to(name, CLICKSTREAM, item_added("09:00", name)) for name in (ANA, "ben")])
    bench.step("10:00", [])

    assert scrape(bench)["journey_moment_ends_total", "abandoned_cart", "acted"] == 2
    assert scrape(bench)["journey_moments_total", "abandoned_cart"] == 2


def test_the_census_follows_commits(bench: Bench) -> None:
    """Customers, timers and held slots are those of the last commit, also of customers that were erased."""
    bench.step("08:00", [to(name, PROFILES, profile(customer=name)) for name in (ANA, "ben", "cleo")])
    bench.step("09:00", [to(name, CLICKSTREAM, item_added("09:00", name)) for name in (ANA, "ben")])
    bench.commit()
    found = scrape(bench)
    assert found["journey_customers", "7"] == 3
    assert found["journey_timers_pending", "7"] == sum(stored.due < 2**62 for _, stored in bench.store.customers())
    assert found["journey_slots_held", "7"] == 0

    bench.step("10:00", [])
    bench.commit()
    assert scrape(bench)["journey_slots_held", "7"] == 2

    bench.step("10:01", [to(ANA, PROFILES, None), to("cleo", PROFILES, None)])
    bench.commit()
    found = scrape(bench)
    assert found["journey_customers", "7"] == 1
    assert found["journey_slots_held", "7"] == 1
    assert found["journey_state_bytes", "7"] == sum(len(stored.state) for _, stored in bench.store.customers())


def test_a_census_begun_anew_comes_to_the_same(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when customers change while it is being taken, before and behind the place it has come to."""
    names = [f"c{number:02}" for number in range(30)]
    bench.step("08:00", [to(name, PROFILES, profile(customer=name)) for name in names])
    bench.step("09:00", [to(name, CLICKSTREAM, item_added("09:00", name)) for name in names[:20]])
    bench.commit()
    monkeypatch.setattr(census, "COUNTED_ROWS", 7)
    again = bench.partition.census = census.Census()
    for number in range(6):
        again.count_some(bench.store) if again.counting else None
        changed = [names[number], names[-1 - number], f"new{number}"]
        records = [to(name, CLICKSTREAM, item_added("09:01", name)) for name in changed]
        monkeypatch.setattr("orchestrator.runtime.partition.CENSUS_SECONDS", 1e9)
        bench.step(f"10:{number:02}", [*records, to(names[10 + number], PROFILES, None)])
        bench.commit()

    stored = [stored for _, stored in bench.store.customers()]
    assert not again.counting
    assert (again.customers, again.state_bytes) == (len(stored), sum(len(one.state) for one in stored))
    assert again.timers == sum(one.due < 2**62 for one in stored)
    assert again.slots == sum(census._holds_slot(one.state) for one in stored)
    assert again.slots > 0


def test_the_census_goes_on_without_steps(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a replay that has ended when a partition comes to be restored."""
    names = [f"c{number:02}" for number in range(30)]
    bench.step("08:00", [to(name, PROFILES, profile(customer=name)) for name in names])
    bench.commit()
    bench.restart()
    monkeypatch.setattr(census, "COUNTED_ROWS", 7)
    monkeypatch.setattr("orchestrator.runtime.partition.CENSUS_SECONDS", 0)
    loop = idle_loop(bench)

    for _ in range(5):
        assert ("journey_customers", "7") not in scrape(bench)
        loop.step()
    assert scrape(bench)["journey_customers", "7"] == 30


def idle_loop(bench: Bench) -> Loop:
    """Return a loop around one partition to which nothing comes any more."""
    nothing: Any = SimpleNamespace(consume=lambda *_: [], poll=lambda *_: 0, reached=lambda _: True, produce=None)
    config = LoopConfig(INPUTS, "clock", "changelog", "w0", commit_interval=1_000)
    loop = Loop(config, nothing, nothing, nothing, nothing, NoBarriers(), nothing, nothing, nothing, now_ms)
    loop.partitions[7] = bench.partition
    return loop


def test_a_census_that_is_not_finished_tells_nothing(bench: Bench) -> None:
    """A number that grows while it is being counted would look like customers who arrive."""
    bench.partition.census = census.Census()

    assert ("journey_customers", "7") not in scrape(bench)


def test_lag_is_told_in_records_and_in_time(bench: Bench) -> None:
    """Of an input in which nothing waits it is 0, however old its last event."""
    bench.step("09:00", [to(ANA, CLICKSTREAM, item_added("08:59")), to(ANA, PURCHASES, bought("08:58"))])
    found = scrape(bench, {**bench.offsets, CLICKSTREAM: 5})

    assert found["journey_lag_records", "7", CLICKSTREAM] == 4
    assert found["journey_lag_records", "7", PURCHASES] == 0
    assert found["journey_lag_seconds", "7", PURCHASES] == 0
    assert found["journey_lag_seconds", "7", CLICKSTREAM] == pytest.approx((now_ms() - instant("08:59")) / 1000, abs=60)


def test_an_idle_partition_is_as_far_as_its_last_barrier(tmp_path: Path) -> None:
    """Nothing is committed while nothing happens, and still nobody waits."""
    bench = Bench(tmp_path / "live", live=True)
    bench.step("09:00", [to(ANA, CLICKSTREAM, item_added("08:59"))])
    bench.step("09:30", [])

    found = scrape(bench)
    assert found["journey_clock_seconds", "7"] == instant("09:30") / 1000
    assert found["journey_barrier_age_seconds", "7"] == pytest.approx((now_ms() - instant("09:30")) / 1000, abs=60)
    assert bench.partition.clock == instant("09:00")
    bench.partition.close()


def test_a_timer_that_waits_is_told_before_and_after_it_is_due(bench: Bench) -> None:
    """The earliest instant is known from memory and from the store; fired late, it says how late."""
    bench.step("08:00", [to(ANA, PROFILES, profile())])
    bench.step("09:01", [to(ANA, CLICKSTREAM, item_added("09:00"))])
    assert bench.partition.next_due == instant("10:00")
    bench.commit()
    bench.step("09:30", [])
    assert bench.partition.next_due == instant("10:00")
    bench.step("10:00:02", [])

    assert bench.tally.timer_lateness.count == 1
    assert bench.tally.timer_lateness.sum == 2.0


def test_steps_are_counted_by_their_records(bench: Bench) -> None:
    """One with none, one with two."""
    bench.step("08:00", [])
    bench.step("09:00", [to(ANA, CLICKSTREAM, item_added("08:59")), to(ANA, CLICKSTREAM, b"nonsense")])

    found = scrape(bench)
    assert found["journey_step_records_bucket", "0.0"] == 1
    assert found["journey_step_records_bucket", "3.0"] == 2
    assert (found["journey_step_records_count",], found["journey_step_records_sum",]) == (2, 2)


def test_a_bucket_holds_what_is_not_above_its_bound() -> None:
    """As Prometheus wants it, each with those before it."""
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.add(value)

    assert list(histogram.buckets()) == [("1.0", 2), ("2.0", 3), ("+Inf", 4)]
    assert (histogram.count, histogram.sum) == (4, 12.0)


def test_before_the_loop_there_is_nothing_to_tell() -> None:
    """A worker that waits for its brokers is scraped, too."""
    assert list(LoopCollector(lambda: None).collect()) == []


def test_every_count_of_the_tally_is_told() -> None:
    """What the hot path counts, somebody reads."""
    read: set[str] = set()

    class Spy:
        def __getattr__(self, name: str) -> Any:
            read.add(name)
            return getattr(Tally(), name)

    loop = SimpleNamespace(tally=Spy(), partitions={}, definitions="", commits=0, aborts=0, rebalances=0)
    loop.restoring = loop.restored = 0
    loop.config = SimpleNamespace(inputs=())
    list(LoopCollector(lambda: cast("Loop", loop)).collect())

    assert read | {"counted_at"} == {*Tally.__dataclass_fields__, "moments"}

"""Caps that customers share: never exceeded, in whatever order customers are decided; kept with the partition."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import quotas
from orchestrator.arbitration.campaign import Send, SeriesStep, SharedCap
from orchestrator.customer import Customer
from orchestrator.engine import advance
from orchestrator.events import DAY, HOUR, MINUTE
from orchestrator.moments.rules import Absence, EventMatch, Moment
from orchestrator.quotas import Quotas
from orchestrator.recall import count_use
from orchestrator.runtime.state_store import Meta, meta_from_bytes, meta_to_bytes
from orchestrator.simulation import Simulation
from tests.builders import ANA, REFERENCE, campaign, event, instant, policy, profile, program, simulation
from tests.runtime import messages
from tests.runtime.messages import CLICKSTREAM, PROFILES, Bench, intake, item_added, to

LOOKED = Moment(
    name="looked",
    say="Looked at it and did not buy",
    shape=Absence(EventMatch(("product.viewed",)), None, EventMatch(("order.placed",)), 30 * MINUTE),
    key="sku",
    lasts=12 * HOUR,
)
CAP = SharedCap(2, HOUR)
LAST_UNITS = replace(campaign("last_units", "looked"), cap=CAP)


@given(st.integers(1, 1_000), st.integers(1, 64))
def test_the_shares_of_all_partitions_are_the_total(total: int, partitions: int) -> None:
    """And no two differ by more than one."""
    shares = [Quotas(None, number, partitions).share(SharedCap(total, HOUR)) for number in range(partitions)]

    assert sum(shares) == total
    assert max(shares) - min(shares) <= 1


@given(st.lists(st.tuples(st.integers(0, 300), st.sampled_from("ab")), max_size=60), st.integers(1, 4))
@settings(derandomize=True, max_examples=200)
def test_no_stretch_of_time_has_more_than_the_share(asked: list[tuple[int, str]], total: int) -> None:
    """In whatever order it is asked for; and whoever was refused would have been one too many."""
    cap, counted = SharedCap(total, 50), Quotas()
    for at, key in asked:
        before = list(counted.uses.get(f"c/{key}", ()))
        allowed = counted.allows("c", key, cap, at)
        with_it = sorted([*before, at])
        assert allowed == all(sum(first <= one < first + 50 for one in with_it) <= total for first in with_it)
        if allowed:
            counted.use("c", key, at)
        else:
            free = counted.free_at("c", key, cap, at)
            assert free is None or (free > at and counted.allows("c", key, cap, free))
    assert counted.count == sum(map(len, counted.uses.values()))


def test_what_counts_for_nothing_any_more_is_forgotten() -> None:
    """And what belongs to a campaign without a cap."""
    counted = Quotas({"c/a": [10, 20, 70], "c/b": [10], "gone/a": [70]})

    counted.forget([("c", SharedCap(2, 50))], 70)

    assert (counted.uses, counted.count) == ({"c/a": [70]}, 1)


def test_a_partition_that_remembers_too_much_tells_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its state stays bounded."""
    monkeypatch.setattr(quotas, "MAX_USES", 2)

    assert Quotas({"c/a": [1]}).allows("c", "b", CAP, 1)
    assert not Quotas({"c/a": [1, 2]}).allows("c", "b", CAP, 1)


def shop_with(*visits: tuple[str, str, str], control_bp: int = 0) -> Simulation:
    """Return a shop in which customers have looked at products: who, when and which."""
    compiled = program(moments=[LOOKED], campaigns=[replace(LAST_UNITS, control_bp=control_bp)], rules=policy())
    shop = simulation(compiled)
    for who, at, sku in visits:
        shop.feed(profile(customer=who), event("product.viewed", at, who, sku=sku))
    return shop


def test_only_so_many_people_are_told_and_the_rest_when_it_is_free_again() -> None:
    """About each product, whoever asks first; without anything happening."""
    shop = shop_with(("a", "09:00", "S1"), ("b", "09:01", "S1"), ("c", "09:02", "S1"), ("d", "09:02", "S2"))
    shop.advance(instant("10:29:59"))
    assert [(trigger.customer_id, trigger.moment_key) for trigger in shop.triggers] == [
        ("a", "S1"), ("b", "S1"), ("d", "S2"),
    ]  # fmt: skip
    refused = next(one for one in shop.decisions if one.customer_id == "c").candidates[0]
    assert (refused.reason, refused.saw) == ("sku_cap", "2 about S1 in 1h, at most 2 of 2")

    shop.advance(instant("10:30"))
    assert shop.triggers[-1].customer_id == "c"


def test_the_control_group_uses_nothing() -> None:
    """Nobody told them."""
    shop = shop_with(*((who, "09:00", "S1") for who in "abcd"), control_bp=10_000)
    shop.advance(instant("10:00"))

    assert [decision.arm for decision in shop.decisions] == ["control"] * 4
    assert shop.quotas.count == 0


def test_what_was_used_is_forgotten_in_time() -> None:
    """Nothing grows."""
    shop = shop_with(*((f"c{day}", f"{day}d 09:00", f"S{day}") for day in range(9)))
    shop.advance(instant("9d 00:00"))
    shop.advance(instant("12d 00:00"))
    shop.advance(instant("13d 00:00"))

    assert len(shop.triggers) == 9
    assert shop.quotas.uses == {}


def test_our_own_decisions_say_what_was_used() -> None:
    """After the loss of every state the count is the same."""
    shop = shop_with(("a", "09:00", "S1"), ("b", "09:01", "S1"), ("c", "09:02", "S1"), ("d", "09:02", "S2"))
    shop.advance(instant("10:00"))
    rebuilt = Quotas()
    for decision in shop.decisions:
        count_use(shop.program, rebuilt, decision)

    assert (rebuilt.uses, rebuilt.count) == (shop.quotas.uses, 3)


VISITS = st.lists(
    st.tuples(
        st.sampled_from("abcdefgh"), st.integers(0, 6 * 60), st.sampled_from(["S1", "S2"]), st.integers(0, 5 * 60)
    ),
    max_size=30,
)


@given(VISITS, st.lists(st.integers(0, 12 * 60), max_size=10))
@settings(derandomize=True, max_examples=60, deadline=None)
def test_a_cap_is_never_exceeded(visits: list[tuple[str, int, str, int]], barriers: list[int]) -> None:
    """Whoever comes late, and wherever the barriers fall: by the instants that the triggers say."""
    shop = simulation(program(moments=[LOOKED], campaigns=[LAST_UNITS], rules=policy(default_accept_late=6 * HOUR)))
    shop.feed(*(profile(customer=who) for who in "abcdefgh"))
    begin = instant("09:00")
    waiting = sorted(visits, key=lambda visit: visit[1] + visit[3])
    for minute in [*sorted(barriers), 24 * 60]:
        ready = [visit for visit in waiting if visit[1] + visit[3] <= minute]
        waiting = waiting[len(ready) :]
        shop.feed(*(event("product.viewed", begin + at * MINUTE, who, sku=sku) for who, at, sku, _ in ready))
        shop.advance(begin + minute * MINUTE)
    for sku in ("S1", "S2"):
        told = sorted(trigger.decided_at for trigger in shop.triggers if trigger.moment_key == sku)
        assert all(last - first >= HOUR for first, last in zip(told, told[CAP.total :], strict=False))


def test_what_was_used_survives_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the partition's own meta record, in the same transaction as the decisions."""
    capped = replace(campaign("cart_rescue", "abandoned_cart"), cap=SharedCap(8 * 3, 7 * DAY))
    monkeypatch.setattr(messages, "program", lambda: program(campaigns=[capped]))
    bench = Bench(tmp_path / "0")
    share = bench.partition.quotas.share(SharedCap(8 * 3, 7 * DAY))
    names = (f"c{number}" for number in range(1_000))
    people = list(islice((who for who in names if not intake().is_stranger(who.encode(), 0)), share + 1))
    for who in people[:-1]:
        bench.step("09:00", [to(who, PROFILES, messages.profile(customer=who))])
        bench.step("09:00", [to(who, CLICKSTREAM, item_added("09:00", customer=who))])
    bench.step("11:00")
    bench.commit()
    assert bench.sent.reasons == ["chosen"] * share

    bench.reopen()
    bench.step("11:00", [to(people[-1], PROFILES, messages.profile(customer=people[-1]))])
    bench.step("11:00", [to(people[-1], CLICKSTREAM, item_added("11:00", customer=people[-1]))])
    bench.step("13:00")
    assert bench.sent.reasons[share:] == ["sku_cap"]
    bench.partition.close()


def test_the_meta_record_holds_what_was_used() -> None:
    """In the store and in the changelog alike; one without it is read as nothing."""
    assert meta_from_bytes(meta_to_bytes(Meta(5, {}, quotas={"c/a": [1, 2]}))).quotas == {"c/a": [1, 2]}


def test_without_anybody_who_counts_nothing_goes_out() -> None:
    """Whoever drives the engine must keep the count."""
    compiled = program(moments=[LOOKED], campaigns=[LAST_UNITS], rules=policy())
    seen = [profile(), event("product.viewed", "09:00", sku="S1")]
    effects = advance(compiled, REFERENCE, ANA, Customer(), seen, instant("10:00"))

    assert [candidate.saw for candidate in effects.decisions[0].candidates] == ["nobody counts"]


def test_of_a_series_only_the_first_message_counts() -> None:
    """Later steps neither use the cap nor wait for it, and a rebuild counts the same."""
    later = SeriesStep("later", Send("email", "later"), HOUR)
    series = replace(
        campaign("series", "looked", window=3 * DAY),
        cap=SharedCap(2, 2 * DAY),
        series=(SeriesStep("first", Send("email", "first")), later),
    )
    compiled = program(moments=[LOOKED], campaigns=[series], rules=policy())
    simulated = simulation(compiled, known=False)
    for who in ("a", "b", "c"):
        simulated.feed(profile(customer=who), event("product.viewed", "09:00", customer=who, sku="S1"))
    simulated.advance(instant("20:00"))

    sent = [(one.customer_id, one.step) for one in simulated.triggers]
    refused = {one.customer_id for one in simulated.decisions if one.reason == "sku_cap"}
    again = Quotas()
    for decision in simulated.decisions:
        count_use(compiled, again, decision)

    assert sorted(sent) == [("a", "first"), ("a", "later"), ("b", "first"), ("b", "later")]
    assert refused == {"c"}
    assert again.uses == simulated.quotas.uses
    assert again.count == 2

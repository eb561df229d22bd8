"""How time moves instances: opening, going stale, being too old, being picked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from orchestrator.conditions import Condition
from orchestrator.customer import OPEN, WAITING, Instance
from orchestrator.events import FOREVER
from orchestrator.moments.rules import PickOne
from orchestrator.moments.wake import Waking, may_pick_from, wake, wake_and_pick
from tests.builders import ABANDONED_CART, REPLENISHMENT

LASTING = replace(ABANDONED_CART, lasts=100)


def waking(now: int, *, disorder: int = 0, old: int = 1_000, truth: bool | None = True) -> Waking:
    """Return a look at an instant, at which every condition has the same truth."""
    holds: Callable[[Condition, str], tuple[bool | None, str]] = lambda condition, key: (truth, f"saw {key}")  # noqa: ARG005, E731
    return Waking(now, disorder, old, holds)


def test_it_opens_when_due_and_stragglers_are_in() -> None:
    """Not a millisecond before, and as of its due instant."""
    for now, state in ((209, WAITING), (210, OPEN)):
        instances = {"c1": Instance(WAITING, 100, 200, 300)}
        woken = wake(LASTING, instances, waking(now, disorder=10))

        assert woken == ([], state == OPEN)
        assert (instances["c1"].state, instances["c1"].due) == (state, 200)


def test_it_is_stale_at_the_end_of_lasts() -> None:
    """`lasts` counts from the opening; at its end the moment expires."""
    instances = {"c1": Instance(OPEN, 100, 200, 300, "quiet_hours", "23:00")}

    assert wake(LASTING, instances, waking(299)).over == []
    [over] = wake(LASTING, instances, waking(300)).over
    assert (over.state, over.reason, over.by) == ("expired", "quiet_hours", "23:00")


def test_what_never_had_a_decision_expires_as_expired() -> None:
    """Without a last reason the reason is that it was too late."""
    instances = {"c1": Instance(WAITING, 100, 200, 300)}
    woken = wake(LASTING, instances, waking(500))

    assert [(over.state, over.reason) for over in woken.over] == [("expired", "expired")]
    assert not woken.opened


def test_lasts_never_outlives_the_moments_own_window() -> None:
    """Of two ends the earlier one counts."""
    instances = {"c1": Instance(WAITING, 100, 200, 250)}
    wake(LASTING, instances, waking(200))

    assert instances["c1"].until == 250


def test_too_old_is_inclusive() -> None:
    """A moment as old as the limit may still be acted on."""
    for now, expected in ((1_200, []), (1_201, ["too_old"])):
        instances = {"c1": Instance(WAITING, 100, 200, FOREVER)}
        woken = wake(replace(LASTING, lasts=None), instances, waking(now, old=1_000))

        assert [over.reason for over in woken.over] == expected


def test_a_condition_that_is_not_true_is_unmet() -> None:
    """False and unknown both leave the moment closed, for their own reasons."""
    for truth, reason in ((False, "not_eligible"), (None, "unknown_value")):
        woken = wake(LASTING, {"c1": Instance(WAITING, 100, 200, 300)}, waking(200, truth=truth))

        assert [(over.state, over.reason, over.by) for over in woken.over] == [("unmet", reason, "saw c1")]


def test_the_pick_is_the_one_worth_most_then_by_name() -> None:
    """Of equals the name decides; the picked one opens now."""
    worth = {"a": 1, "b": 2, "c": 2}
    instances = {key: Instance(WAITING, 100, 200, 900) for key in ("c", "a", "b")}
    woken = wake_and_pick(REPLENISHMENT, instances, waking(250), -FOREVER, 250, worth.__getitem__)

    assert woken == ([], True)
    assert {key: (instance.state, instance.due) for key, instance in instances.items()} == {
        "c": (WAITING, 200), "a": (WAITING, 200), "b": (OPEN, 250),
    }  # fmt: skip


def test_nothing_is_picked_while_one_is_open_or_before_the_interval() -> None:
    """One at a time, and at most one per interval."""
    spaced = replace(REPLENISHMENT, pick_one=PickOne("expected_margin", 500))
    instances = {"a": Instance(OPEN, 100, 200, 900), "b": Instance(WAITING, 100, 200, 900)}

    assert may_pick_from(spaced, instances, 200) == FOREVER
    assert may_pick_from(spaced, {"b": instances["b"]}, 200) == 700
    assert may_pick_from(spaced, {"b": instances["b"]}, None) == -FOREVER
    assert not wake_and_pick(spaced, instances, waking(300), FOREVER, 300, lambda _: 0).opened
    assert not wake_and_pick(spaced, {"b": instances["b"]}, waking(699), 700, 699, lambda _: 0).opened


def test_a_picked_moment_may_also_be_an_absence() -> None:
    """What waits for its turn waits until it would be stale."""
    picky = replace(LASTING, pick_one=PickOne("expected_margin", 0))
    instances = {"a": Instance(WAITING, 100, 200, 300)}

    assert wake_and_pick(picky, instances, waking(299), -FOREVER, 299, lambda _: 0).opened

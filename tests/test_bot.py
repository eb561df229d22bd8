"""One id that never stops, or whose values are as long as they may be, costs bounded state and nobody else's time."""

from __future__ import annotations

from pathlib import Path

from bench.bot import run
from orchestrator.arbitration.policy import Cap
from orchestrator.contact import MAX_CONSENTS, give_consent
from orchestrator.customer import Customer
from orchestrator.events import DAY, MINUTE
from orchestrator.features import MAX_KEY
from orchestrator.measurement import MAX_ORDERS
from orchestrator.runtime.intake import MAX_TEXT
from orchestrator.step import MAX_SENT
from tests.builders import ANA, CAMPAIGNS, cart_add, event, instant, message, order, policy, program, simulation


def test_a_bot_costs_bounded_state_and_does_not_starve_its_partition(tmp_path: Path) -> None:
    """A hundred thousand events under one id; the whole million is `python -m bench.bot`."""
    found = run(100_000, tmp_path / "0")
    print(f"\n{found}")

    assert found["state_bytes_largest"] < 16_384
    assert found["cpu_us_per_event_last_tenth"] < 2 * found["cpu_us_per_event_first_tenth"]
    assert found["neighbours_decided"] == found["neighbours_due"] == 780
    assert found["overdue_timers_after_a_step"] == 0


def test_a_window_counts_a_persons_orders() -> None:
    """Beyond what a person orders they cost nothing, and the outcome is still told."""
    simulated = simulation()
    simulated.feed(cart_add("09:00"))
    simulated.advance(instant("10:00"))
    simulated.feed(*(order(instant("11:00") + number, f"o{number}") for number in range(MAX_ORDERS + 50)))
    simulated.advance(instant("12:00"))
    size = len(simulated.customers[ANA].to_bytes())
    simulated.feed(*(order(instant("13:00") + number, f"p{number}") for number in range(1_000)))
    simulated.advance(instant("5d 00:00"))

    assert [outcome.orders for outcome in simulated.outcomes] == [MAX_ORDERS]
    assert size < 8_192


def test_messages_beyond_any_cap_are_forgotten() -> None:
    """The newest count."""
    simulated = simulation(program(rules=policy(caps=(Cap(3, DAY),))))
    simulated.feed(*(message(instant("09:00") + number) for number in range(1_000)))
    simulated.advance(instant("10:00"))

    assert [at for at, _ in simulated.customers[ANA].sent] == [
        instant("09:00") + number for number in range(1_000 - MAX_SENT, 1_000)
    ]


def test_a_flood_of_opt_outs_forgets_opt_outs_first() -> None:
    """What is forgotten is no record, and that means no message."""
    customer = Customer()
    give_consent(customer, "email/marketing", granted=True, at=1)
    for number in range(1_000):
        give_consent(customer, f"channel-{number}/marketing", granted=False, at=number)

    assert len(customer.consents) == MAX_CONSENTS
    assert customer.consents["email/marketing"] == (True, 1)
    assert customer.consents["channel-999/marketing"] == (False, 999)


def test_the_longest_values_do_not_fill_a_state() -> None:
    """Keys and ids as long as the intake lets through: too long for a key, and an order's id is remembered shorter."""
    simulated = simulation(program(campaigns=CAMPAIGNS))
    long = "x" * (MAX_TEXT - 10)
    simulated.feed(cart_add("08:00"))
    simulated.advance(instant("09:00"))
    for number in range(300):
        at = instant("09:00") + number * MINUTE
        simulated.feed(
            cart_add(at, cart=f"{long}{number}"),
            event("cart.emptied", at, cart_id=f"{long}-{number}"),
            order(at, f"{long}{number}", [{"sku": f"{long}{number}", "quantity": 1, "price": 1, "margin": 1}]),
        )
    simulated.advance(instant("1d 00:00"))

    assert len(simulated.customers[ANA].to_bytes()) < 16_384
    window = simulated.customers[ANA].window
    assert window is not None
    assert len(window.orders) == MAX_ORDERS


def test_a_key_as_long_as_it_may_be_is_a_key() -> None:
    """Real carts have ids of some dozen characters."""
    simulated = simulation()
    simulated.feed(cart_add("09:00", cart="k" * MAX_KEY), cart_add("09:00", cart="k" * (MAX_KEY + 1)))
    simulated.advance(instant("11:00"))

    assert [len(trigger.moment_key) for trigger in simulated.triggers] == [MAX_KEY]

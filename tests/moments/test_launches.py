"""Windows around the launch of something new."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.customer import Customer
from orchestrator.definitions.load import load
from orchestrator.events import DAY, FOREVER, HOUR
from orchestrator.program import Program
from orchestrator.recall import hand_over, recall
from orchestrator.reference import Product, Reference
from orchestrator.simulation import Simulation
from tests.builders import ANA, TOPICS, ends, instant, line, order, unsubscribed

TEXT = """
moments:
  - moment: coming
    say: "Something new of a category they bought of is coming"
    key: category
    around: { date: product.launch_at, matching: category, from: -10d, to: 1d }
    only_if: "bought_within(category, 30d)"
    cancelled_by: { event: customer.unsubscribed }
    lasts: window
one_at_a_time: { rest: 0d }
"""
START = instant("09:00")
LAUNCH = instant("20d 12:00")


def shop(*products: Product) -> Simulation:
    """Return a simulation with a lamp to buy, and what is to come."""
    definitions, problems = load({"x": TEXT})
    assert definitions is not None, problems
    reference = Reference([Product("LAMP", category="home"), *products])
    return Simulation(Program(definitions, TOPICS), reference, start=START - HOUR, round_trip=True)


def sofa(told: str | int = "09:00", launch: int = LAUNCH) -> Product:
    """Return a sofa that is told of at an instant."""
    return Product("SOFA", told if isinstance(told, int) else instant(told), category="home", launch_at=launch)


def lives(world: Simulation) -> list[tuple[int, str]]:
    """Return the opening and the end of every window that opened."""
    return [(over.opened_at, over.state) for over in ends(world)]


def test_it_opens_and_ends_around_the_launch() -> None:
    """Ten days before until a day after."""
    world = shop(sofa())
    world.feed(order("09:00", lines=[line("LAMP")]))
    world.advance(instant("60d 00:00"))

    assert lives(world) == [(LAUNCH - 10 * DAY, "expired")]
    assert ends(world)[0].moment_key == "home"


def test_who_bought_too_long_ago_is_not_looked_at_any_more() -> None:
    """Thirty days after the last order nothing is due."""
    world = shop()
    world.feed(order("09:00", lines=[line("LAMP")]))
    world.advance(instant("29d 09:00"))
    assert world.customers[ANA].next_due <= instant("30d 09:00")

    world.advance(instant("31d 09:00"))

    assert world.customers[ANA].next_due == FOREVER
    assert lives(world) == []


def test_what_ends_it_ends_it_for_good() -> None:
    """The next day's look does not bring it back."""
    world = shop(sofa())
    world.feed(order("09:00", lines=[line("LAMP")]), unsubscribed("12d 09:00"))
    world.advance(instant("60d 00:00"))

    assert lives(world) == [(LAUNCH - 10 * DAY, "cancelled")]


def test_after_a_loss_of_all_state_what_was_due_does_not_open_again() -> None:
    """What opened until then is in our records; the next launch is waited for."""
    world = shop(sofa(), Product("VASE", START, category="home", launch_at=LAUNCH + 9 * DAY))
    customer = Customer()
    recall(world.program, world.reference, ANA, customer, [order("09:00", lines=[line("LAMP")])], [])
    hand_over(world.program, world.reference, ANA, customer, LAUNCH - 5 * DAY, {})
    world.clock = LAUNCH - 5 * DAY
    world.customers[ANA] = customer
    assert customer.next_due == LAUNCH - 4 * DAY  # the daily look

    world.feed(order(LAUNCH - 5 * DAY + HOUR, lines=[line("LAMP")]))
    world.advance(instant("60d 00:00"))

    assert lives(world) == [(LAUNCH - DAY, "expired")]


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.integers(0, 40), max_size=4).map(sorted),
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 60)), max_size=3),
    st.sampled_from([3 * HOUR, 25 * HOUR]),
)
def test_barriers_change_nothing(bought: list[int], told: list[tuple[int, int]], every: int) -> None:
    """However often they come, with launches told and put off meanwhile."""
    products = [sofa(START + day * DAY, START + (day + ahead) * DAY) for day, ahead in told]
    worlds = []
    for step in (every, 100 * DAY):
        world = shop(*products)
        orders = [order(START + day * DAY, f"o{place}", [line("LAMP")]) for place, day in enumerate(bought)]
        world.run(orders, to=START + 100 * DAY, every=step)
        worlds.append(lives(world))

    assert worlds[0] == worlds[1]

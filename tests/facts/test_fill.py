"""Each name of a `with` is filled in from what is known, as of the decision; what is not known is left out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from orchestrator.arbitration.campaign import Campaign
from orchestrator.definitions.content import CONTENT, asked_by_content
from orchestrator.events import DAY, Event
from orchestrator.features import Feature
from orchestrator.moments.rules import EventMatch, Launch, Moment, Silence
from orchestrator.program import Program
from orchestrator.records import CartLine, Facts, NamedProduct, Subscription, Trigger
from orchestrator.reference import Product, Reference, SimilarProduct, SimilarProducts
from orchestrator.simulation import Simulation
from tests.builders import (
    ABANDONED_CART,
    CART_RESCUE,
    FEATURES,
    LAPSED,
    REFERENCE,
    REORDER,
    REPLENISHMENT,
    WINBACK,
    cart_add,
    cart_emptied,
    event,
    instant,
    line,
    order,
    profile,
    program,
)

SHAMPOO, SOAP, CONDITIONER = "SHAMPOO", "SOAP", "CONDITIONER"


def asking(campaign: Campaign, *names: str) -> Campaign:
    """Return a campaign that asks for content."""
    return replace(campaign, send=replace(campaign.send, content=names))


def compiled(*campaigns: Campaign, moments: Iterable[Moment], features: Iterable[Feature] = FEATURES) -> Program:
    """Return a program with the features that its content needs, as loading definitions adds them."""
    known = {one.name: one for one in features}
    known |= {one.name: one for one in asked_by_content(known, {one.name: one for one in moments}, campaigns)}
    return program(moments=moments, campaigns=campaigns, features=known.values())


def shop(compiled: Program, *products: Product, similar: Iterable[SimilarProducts] = ()) -> Simulation:
    """Return a simulation with these products; every customer goes through bytes after every step."""
    reference = Reference([*(REFERENCE.product(sku, 0) or Product(sku) for sku in (SHAMPOO, SOAP, "BOOK")), *products])
    for one in similar:
        reference.put_similar(one)
    simulated = Simulation(compiled, reference, round_trip=True)
    simulated.feed(profile())
    return simulated


def close(sku: str, **others: int) -> SimilarProducts:
    """Return what is close to a product, and how close."""
    return SimilarProducts(sku, 0, tuple(SimilarProduct(other, bp) for other, bp in others.items()))


def said(simulated: Simulation) -> Facts:
    """Return what the last trigger says."""
    trigger: Trigger = simulated.triggers[-1]
    assert trigger.facts is not None
    return trigger.facts


def hair(at: str, quantity: int = 1, sku: str = SHAMPOO) -> Event:
    """Return an order of something for the hair."""
    return order(at, lines=[{**line(sku, 1_000 * quantity, 400), "quantity": quantity}])


class TestCart:
    """What lies in the cart that was given up."""

    def test_lines_with_what_was_told_then(self) -> None:
        """Units add up, the last price counts, and a product without one has its list price."""
        one = shop(compiled(asking(CART_RESCUE, "cart_lines"), moments=[ABANDONED_CART]), Product("SOAP", name="Soap"))
        one.feed(
            cart_add("09:00", sku=SHAMPOO, quantity=1, unit_price=900),
            cart_add("09:01", sku=SHAMPOO, quantity=2, unit_price=950),
            cart_add("09:02", sku=SOAP),
        )
        one.advance(instant("11:00"))

        assert said(one).cart_lines == (CartLine(SHAMPOO, 3, 950), CartLine(SOAP, 1, None, "Soap"))

    def test_taken_out_again(self) -> None:
        """What was removed is not named, nor is what lies in another cart."""
        one = shop(compiled(asking(CART_RESCUE, "cart_lines"), moments=[ABANDONED_CART]))
        removed = event("cart.item_removed", "09:02", cart_id="c1", sku=SOAP, quantity=1)
        one.feed(cart_add("09:00", sku=SHAMPOO), cart_add("09:01", sku=SOAP), removed)
        one.feed(cart_add("08:00", cart="c0", sku="BOOK"), cart_emptied("08:30", cart="c0"))
        one.advance(instant("11:00"))

        assert said(one).cart_lines == (CartLine(SHAMPOO, 1, 1_000),)

    def test_the_last_twenty(self) -> None:
        """A cart of a hundred products keeps a state small."""
        one = shop(compiled(asking(CART_RESCUE, "cart_lines"), moments=[ABANDONED_CART]))
        one.feed(*(cart_add(f"09:{minute:02}", sku=f"P{minute}") for minute in range(30)))
        one.advance(instant("11:00"))

        lines = said(one).cart_lines
        assert [one.sku for one in lines] == [f"P{minute}" for minute in range(10, 30)]

    def test_what_goes_with_it(self) -> None:
        """The products closest to all of the cart together, not what lies in it, nothing sold out or to come."""
        similar = [
            close(SHAMPOO, CONDITIONER=500, SOAP=400, GONE=900, SOON=900),
            close(SOAP, TOWEL=600, CONDITIONER=50),
        ]
        products = [
            Product("GONE", stock=0),
            Product("SOON", launch_at=2**60),
            Product(CONDITIONER, name="Conditioner"),
        ]
        program = compiled(asking(CART_RESCUE, "recommended"), moments=[ABANDONED_CART])
        one = shop(program, *products, similar=similar)
        one.feed(cart_add("09:00", sku=SHAMPOO), cart_add("09:01", sku=SOAP))
        one.advance(instant("11:00"))

        assert said(one).recommended == (NamedProduct("TOWEL"), NamedProduct(CONDITIONER, "Conditioner"))


class TestWhatIsDue:
    """What runs out, how much of it, when, and as a subscription."""

    def test_usual_product_and_one_more(self) -> None:
        """The product that leads the lines, not the last one; one more than on the last trip, of two orders."""
        one = shop(compiled(asking(REORDER, "due_product", "next_quantity"), moments=[REPLENISHMENT]))
        one.reference.put(Product("BALM", family="hair", typical_days_of_supply=30))
        one.feed(hair("09:00"), hair("30d 09:00"), hair("60d 09:00", 2, "BALM"), hair("60d 19:00"))
        one.advance(instant("100d 00:00"))

        facts = said(one)
        assert (facts.due_product, facts.next_quantity) == (NamedProduct(SHAMPOO, None, 1_000), 4)

    def test_a_new_habit_is_noticed(self) -> None:
        """Who changes to another product for long enough is told of that one."""
        one = shop(compiled(asking(REORDER, "due_product"), moments=[REPLENISHMENT]))
        one.reference.put(Product("BALM", family="hair", typical_days_of_supply=30))
        for number in range(30):
            one.feed(hair(f"{number * 10}d 09:00", sku=SHAMPOO if number < 15 else "BALM"))
        one.advance(instant("330d 00:00"))

        assert said(one).due_product == NamedProduct("BALM")

    def test_window_from_the_second_order_on(self) -> None:
        """Before there is a gap of their own nothing is said; then the window has what is expected inside."""
        one = shop(compiled(asking(REORDER, "reorder_window"), moments=[REPLENISHMENT]))
        one.feed(hair("09:00"))
        one.advance(instant("26d 00:00"))
        first = said(one).reorder_window
        one.feed(hair("34d 09:00"))
        one.advance(instant("66d 00:00"))

        second = said(one).reorder_window
        assert first is None
        assert second is not None
        assert instant("34d 09:00") < second.earliest < second.expected < second.latest
        assert second.coverage_bp == 8_000

    def test_window_by_the_shops_own_snapshot(self) -> None:
        """What was published of the shop's own customers counts instead of the table that we ship."""
        one = shop(compiled(asking(REORDER, "reorder_window"), moments=[REPLENISHMENT]))
        one.reference.put_cut_points("reorder_due", 0, {"low_1": 0, "high_1": 0})
        one.feed(hair("09:00"), hair("30d 09:00"))
        one.advance(instant("60d 00:00"))

        window = said(one).reorder_window
        assert window is not None
        assert window.earliest == window.expected == window.latest == instant("60d 09:00")

    def test_subscription_after_three_regular_repeats(self) -> None:
        """At the own gap, of as much as on the last trip."""
        one = shop(compiled(asking(REORDER, "subscription"), moments=[REPLENISHMENT]))
        for day in (0, 28, 56, 84):
            one.feed(hair(f"{day}d 09:00", 2))
        one.advance(instant("120d 00:00"))

        assert said(one).subscription == Subscription(SHAMPOO, 28, 2, 2_000)

    @pytest.mark.parametrize("days", [(0, 28, 56), (0, 28, 56, 60, 88)], ids=["two repeats", "one irregular"])
    def test_no_subscription_before(self, days: tuple[int, ...]) -> None:
        """Two repeats are no habit, and an irregular one takes one of them back."""
        one = shop(compiled(asking(REORDER, "subscription"), moments=[REPLENISHMENT]))
        for day in days:
            one.feed(hair(f"{day}d 09:00"))
        one.advance(instant("140d 00:00"))

        assert said(one).subscription is None

    def test_what_was_kept_before_it_was_asked_for(self) -> None:
        """A state without what was bought goes on, and says it from the next order on; one with it can do without."""
        one = shop(program(moments=[REPLENISHMENT], campaigns=[REORDER]))
        one.feed(hair("09:00"), hair("30d 09:00"))
        one.advance(instant("31d 00:00"))

        one.publish(compiled(asking(REORDER, "due_product", "next_quantity"), moments=[REPLENISHMENT]))
        one.feed(hair("60d 09:00", 3))
        one.advance(instant("100d 00:00"))
        told = said(one)
        one.publish(program(moments=[REPLENISHMENT], campaigns=[REORDER]))
        one.feed(hair("110d 09:00"))
        one.advance(instant("111d 00:00"))

        assert (told.due_product, told.next_quantity) == (NamedProduct(SHAMPOO, None, 1_000), 4)
        [state] = one.customers["ana"].fact(one.program.features["reorder_due"].name).values()
        assert len(state) == 5


class TestLiked:
    """What customers with similar purchases buy."""

    def test_by_what_leads_their_orders(self) -> None:
        """Weighed by how clearly each leads; nothing that they buy already."""
        similar = [close(SHAMPOO, CONDITIONER=500, SOAP=900), close(SOAP, TOWEL=600, CONDITIONER=200)]
        one = shop(compiled(asking(WINBACK, "liked_by_similar"), moments=[LAPSED]), similar=similar)
        one.feed(hair("09:00"), hair("20d 09:00"), order("20d 10:00", lines=[line(SOAP)]))
        one.advance(instant("200d 00:00"))

        assert said(one).liked_by_similar == (NamedProduct(CONDITIONER), NamedProduct("TOWEL"))

    def test_by_what_they_buy_most_where_nothing_is_predicted(self) -> None:
        """Of ten products; one that is bought again and again stays among them."""
        features = [one for one in FEATURES if one.kind != "next_order_date"]
        one = shop(
            compiled(asking(WINBACK, "liked_by_similar"), moments=[LAPSED], features=features),
            similar=[close(SHAMPOO, CONDITIONER=500)],
        )
        for day in range(12):
            one.feed(order(f"{day}d 09:00", lines=[line(SHAMPOO), line(SHAMPOO), line(f"P{day}")]))
        one.advance(instant("200d 00:00"))

        assert said(one).liked_by_similar == (NamedProduct(CONDITIONER),)
        assert len(one.customers["ana"].fact(one.program.features["liked_by_similar.of"].name)) == 10

    def test_without_a_snapshot(self) -> None:
        """Nobody knows what is close to anything: nothing is said."""
        one = shop(compiled(asking(WINBACK, "liked_by_similar"), moments=[LAPSED]))
        one.feed(hair("09:00"), hair("20d 09:00"))
        one.advance(instant("200d 00:00"))

        assert said(one).liked_by_similar == ()


def test_product_of_a_moment_that_is_about_one() -> None:
    """Its sku, name and price as of the decision."""
    looked = Moment(
        "looked", "", Silence(EventMatch(("product.viewed",)), 1_000, "order_gap", DAY, DAY), "sku", lasts=DAY
    )
    ask = asking(replace(CART_RESCUE, when=("looked",)), "product", "recommended")
    one = shop(
        compiled(ask, moments=[looked]), Product("LAMP", 1, price=4_000, name="Lamp"), similar=[close("LAMP", SOAP=9)]
    )
    one.feed(event("product.viewed", "09:00", sku="LAMP"))
    one.advance(instant("1d 10:00"))

    assert said(one) == Facts(product=NamedProduct("LAMP", "Lamp", 4_000), recommended=(NamedProduct(SOAP, None, 300),))


def test_new_collection_is_what_comes_at_once() -> None:
    """What is launched next in the category, at the same instant; not what comes later."""
    bought = Feature("bought_within.category", "last_time", ("order.placed",), key="category", unit="instant")
    coming = Moment("coming", "", Launch(bought.name, 90 * DAY, -14 * DAY, 0), "category")
    ask = asking(replace(CART_RESCUE, when=("coming",)), "new_collection")
    day = instant("30d 10:00")
    new = [Product(sku, category="care", launch_at=day, price=price) for sku, price in (("NEW2", 20), ("NEW1", 10))]
    later = Product("LATER", category="care", launch_at=day + DAY)
    one = shop(compiled(ask, moments=[coming], features=(*FEATURES, bought)), *new, later)
    one.feed(hair("09:00"))
    one.advance(instant("20d 00:00"))

    assert said(one).new_collection == (NamedProduct("NEW1", None, 10), NamedProduct("NEW2", None, 20))


def test_a_retraction_says_nothing_more() -> None:
    """What is taken back has the names that were asked for, and no values."""
    one = shop(compiled(asking(CART_RESCUE, "cart_lines"), moments=[ABANDONED_CART]))
    one.feed(cart_add("09:00", sku=SHAMPOO))
    one.advance(instant("11:00"))
    one.feed(order("09:30"))
    one.advance(instant("11:01"))

    send, retract = one.triggers
    assert send.facts is not None
    assert (retract.action, retract.requested, retract.facts) == ("retract", ("cart_lines",), None)


def test_nothing_is_kept_that_nobody_asks_for() -> None:
    """States stay as small as before for whoever asks for nothing."""
    moments = {one.name: one for one in (ABANDONED_CART, REPLENISHMENT, LAPSED)}
    features = {one.name: one for one in FEATURES}
    nobody = [CART_RESCUE, REORDER, WINBACK]

    assert list(asked_by_content(features, moments, nobody)) == []
    assert list(asked_by_content(features, moments, [asking(REORDER, "reorder_window")])) == []


def test_every_name_of_the_language_can_be_filled() -> None:
    """The names of `with`, the fields of the record and what fills them are the same."""
    one = shop(compiled(asking(CART_RESCUE, *CONTENT), moments=[ABANDONED_CART]))
    one.feed(cart_add("09:00"))
    one.advance(instant("11:00"))

    assert list(CONTENT) == list(Facts.__struct_fields__)
    assert said(one) == Facts()

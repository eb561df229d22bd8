"""One customer of the demo: real baskets, and everything that is invented around them, a week at a time.

Every draw comes from the customer's own generator, so that a customer's year does not depend on who else takes part.
"""

from __future__ import annotations

from bisect import bisect_left
from math import log
from random import Random
from typing import NamedTuple

from orchestrator.demo.catalogue import Catalogue
from orchestrator.demo.feed import Arrival, Feed
from orchestrator.demo.people import CHANNELS, granted_channels, moved, new_profile, with_consent
from orchestrator.demo.purchases import Basket, customer_id
from orchestrator.demo.truth import LOW_VALUE, CartKind, PlantedCart

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
WEEK = 7 * DAY

ONLINE = 0.50
"""Share of the baskets with two usable lines that are bought online, through an observed cart: two in five of all."""

BOUGHT_LATE = 0.05
"""Share of the online baskets whose cart is left for longer than the hour, where the orders around it allow it."""

LATE_FROM, LATE_UNTIL = 75 * MINUTE, 6 * HOUR
"""How long after its last item such a cart is bought."""

QUIET = 80 * MINUTE
"""No order follows within this time after the last item of a cart that nobody buys."""

LEAD = 9 * HOUR
"""Longer than any cart is open before its order."""

_ABANDONED_A_WEEK, _LOW_VALUE, _EMPTIED, _WAVERING = 0.16, 0.11, 0.07, 0.08
_PLACES_TO_TRY = _BASKETS_TO_TRY = 4
_BROWSING_A_WEEK = 0.65
_MESSAGES_A_WEEK, _PROFILE_CHANGES_A_WEEK = 2 / 52, 0.3 / 52
_MOST_UNITS, _MOST_LINES = 24, 8
_NOTICES = ("order_confirmation", "delivery_notice", "account_notice", "recall_notice")


class _Item(NamedTuple):
    product: int
    quantity: int
    unit_price: int


class Shopper:
    """One customer; `week` sends what happens in it, and adds every cart to `carts`."""

    __slots__ = (
        "_baskets",
        "_browsing",
        "_carts",
        "_catalogue",
        "_cheap",
        "_dear",
        "_ends_at",
        "_feed",
        "_next",
        "_orders_at",
        "_profile",
        "_purchases",
        "_random",
        "_taken",
        "_uses_app",
    )

    def __init__(
        self,
        seed: int,
        position: int,
        catalogue: Catalogue,
        survey: dict[int, dict[str, str]],
        opens_at: int,
        ends_at: int,
        carts: list[PlantedCart],
    ) -> None:
        purchases = catalogue.purchases
        household = purchases.households[position]
        # The same seed must be the same world. `random()` is the only draw that Python promises to keep the same
        # between versions, so it is the only one used.
        self._random = random = Random(f"{seed}/{household}").random  # noqa: S311
        self._feed = Feed(customer_id(household), random)
        self._catalogue = catalogue
        self._purchases = purchases
        self._carts = carts
        self._ends_at = ends_at
        self._baskets = purchases.baskets(position)
        self._orders_at = [basket.placed_at for basket in self._baskets]
        self._dear = [basket for basket in self._baskets if basket.total >= LOW_VALUE] or self._baskets
        self._cheap = [basket for basket in self._baskets if basket.total < LOW_VALUE] or self._baskets
        self._next = 0
        self._taken: list[tuple[int, int]] = []
        self._profile = new_profile(random, self._feed.customer, survey.get(household, {}), opens_at)
        self._uses_app = 0.6 * random()
        # Squared, so that a few browse a lot and many hardly ever.
        self._browsing = _BROWSING_A_WEEK * (0.2 + 2.4 * random() ** 2)

    def join(self, out: list[Arrival]) -> None:
        """Send the first profile."""
        self._feed.out = out
        self._feed.profile(self._profile)

    def week(self, start: int, out: list[Arrival]) -> None:
        """Send everything that begins in the week from `start`, and all orders up to `LEAD` after it, unsorted."""
        self._feed.out = out
        self._taken = [span for span in self._taken if span[1] > start - DAY]
        random = self._random
        self._buy(min(start + WEEK + LEAD, self._ends_at))
        if random() < _ABANDONED_A_WEEK:
            self._abandon(start)
        for _ in range(int(self._browsing + random())):
            self._browse(self._some_time(start))
        if random() < _MESSAGES_A_WEEK:
            self._hear_from_others(self._some_time(start))
        if random() < _PROFILE_CHANGES_A_WEEK:
            self._change(self._some_time(start))

    # --- real baskets, and the carts before them ---------------------------------------------------------------------

    def _buy(self, until: int) -> None:
        baskets = self._baskets
        while self._next < len(baskets) and baskets[self._next].placed_at < until:
            basket = baskets[self._next]
            self._next += 1
            if self._random() < ONLINE and len(items := self._items(basket)) >= 2:
                self._buy_online(basket, items)
            else:
                self._feed.order(self._purchases.order_placed(self._feed.customer, basket))

    def _buy_online(self, basket: Basket, items: list[_Item]) -> None:
        random, bought_at = self._random, basket.placed_at
        count = min(len(items), 2 + int(random() * 4))
        first = int(random() * (len(items) - count + 1))
        steps = self._steps(count)
        length = sum(steps)

        kind: CartKind = "bought_in_time"
        last_item_at = bought_at - 2 * MINUTE - int(48 * MINUTE * random() ** 2)
        if random() < BOUGHT_LATE:
            left_at = bought_at - LATE_FROM - int((LATE_UNTIL - LATE_FROM) * random())
            if self._take(left_at - length, left_at, LATE_FROM):
                kind, last_item_at = "bought_late", left_at

        cart_id = self._feed.new_id("c")
        value = self._fill_cart(cart_id, last_item_at - length, steps, items[first : first + count])
        self._feed.click(last_item_at + MINUTE, "checkout.started", cart_id=cart_id, cart_total=value)
        channel = "app" if random() < self._uses_app else "web"
        self._feed.order(self._purchases.order_placed(self._feed.customer, basket, channel, cart_id))
        self._carts.append(
            PlantedCart(
                customer_id=self._feed.customer,
                cart_id=cart_id,
                kind=kind,
                first_item_at=last_item_at - length + steps[0],
                last_item_at=last_item_at,
                value=value,
                bought_at=bought_at,
                order_id=basket.order_id,
            )
        )

    # --- carts that nobody buys --------------------------------------------------------------------------------------

    def _abandon(self, week: int) -> None:
        random = self._random
        items = self._wished(low=random() < _LOW_VALUE)
        if not items:
            return
        steps = self._steps(len(items))
        length = sum(steps)
        for _ in range(_PLACES_TO_TRY):
            begin = self._some_time(week)
            last_item_at = begin + length
            if last_item_at + QUIET < self._ends_at and self._take(begin, last_item_at, QUIET):
                break
        else:
            return

        cart_id = self._feed.new_id("c")
        wavers = len(items) > 2 and random() < _WAVERING
        value = self._fill_cart(cart_id, begin, steps, items, wavers)
        if random() < 0.25:
            self._feed.click(last_item_at + MINUTE // 2, "checkout.started", cart_id=cart_id, cart_total=value)
        kind: CartKind = "abandoned" if value >= LOW_VALUE else "low_value"
        emptied_at = None
        if random() < _EMPTIED:
            kind, emptied_at = "emptied", last_item_at + MINUTE + int(50 * MINUTE * random())
            self._feed.click(emptied_at, "cart.emptied", cart_id=cart_id, cart_total=0)
        self._carts.append(
            PlantedCart(
                customer_id=self._feed.customer,
                cart_id=cart_id,
                kind=kind,
                first_item_at=begin + steps[0],
                last_item_at=last_item_at,
                value=value,
                emptied_at=emptied_at,
            )
        )

    def _wished(self, low: bool) -> list[_Item]:
        """Return part of a basket bought at another time; `low` says on which side of `LOW_VALUE`, if there is one."""
        random = self._random
        among = self._cheap if low else self._dear
        target = int(300 + 1700 * random()) if low else LOW_VALUE - int(3000 * log(1 - random()))
        wished: list[_Item] = []
        for _ in range(_BASKETS_TO_TRY):
            wished, value = _worth(self._items(among[int(random() * len(among))]), target, low)
            if wished and (value < LOW_VALUE) == low:
                break
        return wished

    def _take(self, begin: int, last_item_at: int, quiet: int) -> bool:
        """Return whether no order falls between the beginning and `quiet` after the last item; then keep it so."""
        end = last_item_at + quiet
        following = bisect_left(self._orders_at, begin)
        if following < len(self._orders_at) and self._orders_at[following] < end:
            return False
        # Apart from one another too, so that emptying one cart says nothing about the next.
        if any(begin <= other_end and other_begin <= end for other_begin, other_end in self._taken):
            return False
        self._taken.append((begin, end))
        return True

    # --- on the site -------------------------------------------------------------------------------------------------

    def _fill_cart(self, cart_id: str, begin: int, steps: list[int], items: list[_Item], wavers: bool = False) -> int:
        """Send a visit that fills a cart, its last item at the end of the steps; return what is in it."""
        random, feed = self._random, self._feed
        skus, labels = self._purchases.skus, self._purchases.labels
        feed.click(begin, "site.visited")
        at, total = begin, 0
        for position, (step, item) in enumerate(zip(steps, items, strict=True)):
            product, quantity, unit_price = item
            if random() < 0.2:
                self._view(at + step // 4, self._favourite())
            if random() < 0.7:
                self._view(at + step // 2, product)
            at += step
            total += quantity * unit_price
            feed.click(
                at,
                "cart.item_added",
                skus[product],
                labels[product].category,
                cart_id=cart_id,
                quantity=quantity,
                unit_price=unit_price,
                cart_total=total,
            )
            if wavers and position == 1:
                regretted = items[0]
                total -= regretted.quantity * regretted.unit_price
                feed.click(
                    at + 10 * SECOND,
                    "cart.item_removed",
                    skus[regretted.product],
                    labels[regretted.product].category,
                    cart_id=cart_id,
                    quantity=regretted.quantity,
                    unit_price=regretted.unit_price,
                    cart_total=total,
                )
        return total

    def _browse(self, at: int) -> None:
        random = self._random
        if at + HOUR > self._ends_at:
            return
        self._feed.click(at, "site.visited")
        product = self._favourite()
        if random() < 0.25:
            category, family, *_ = self._purchases.labels[product]
            at += 5 * SECOND + int(random() * 20 * SECOND)
            self._feed.click(at, "product.searched", category=category, query=(family or "offers").lower())
        for _ in range(1 + int(random() * 5)):
            at += 10 * SECOND + int(random() * 140 * SECOND)
            self._view(at, product)
            product = self._favourite()

    def _view(self, at: int, product: int) -> None:
        self._feed.click(
            at,
            "product.viewed",
            self._purchases.skus[product],
            self._purchases.labels[product].category,
            unit_price=self._catalogue.prices[product],
        )

    def _favourite(self) -> int:
        """Return a product: mostly one that the customer buys, else one that everybody buys."""
        random = self._random
        if random() < 0.6:
            basket = self._baskets[int(random() * len(self._baskets))]
            line = basket.first_line + int(random() * (basket.end_line - basket.first_line))
            return int(self._purchases.line_sku[line])
        best = self._catalogue.best_sellers
        return best[int(random() ** 2 * len(best))]

    def _items(self, basket: Basket) -> list[_Item]:
        """Return the lines one would put in a cart: neither fuel by the gallon nor coupons."""
        span = slice(basket.first_line, basket.end_line)
        columns = self._purchases
        return [
            _Item(product, quantity, price // quantity)
            for product, quantity, price in zip(
                columns.line_sku[span].tolist(),
                columns.line_quantity[span].tolist(),
                columns.line_price[span].tolist(),
                strict=True,
            )
            if 0 < quantity <= _MOST_UNITS and price >= quantity
        ]

    def _steps(self, count: int) -> list[int]:
        """Return the time before each item."""
        return [20 * SECOND + int(self._random() * 160 * SECOND) for _ in range(count)]

    def _some_time(self, week: int) -> int:
        """Return an instant in the week, at an hour at which this customer shops."""
        random = self._random
        usual = self._orders_at[int(random() * len(self._orders_at))]
        return week + int(random() * 7) * DAY + (usual + int((random() - 0.5) * 2 * HOUR)) % DAY

    # --- messages and profile ----------------------------------------------------------------------------------------

    def _hear_from_others(self, at: int) -> None:
        """Send a message that is not ours, and what became of it."""
        random, feed = self._random, self._feed
        channel = "email" if random() < 0.85 else "sms"
        campaign = _NOTICES[int(random() * len(_NOTICES))]
        opened_after = 5 * MINUTE + int(random() ** 3 * DAY)
        if at + 2 * DAY > self._ends_at:
            return
        feed.message(at, "message.sent", channel, campaign)
        if random() < 0.03:
            feed.message(at + 40 * SECOND, "message.bounced", channel, campaign)
            return
        feed.message(at + 20 * SECOND, "message.delivered", channel, campaign)
        if channel == "email" and random() < 0.25:
            feed.message(at + 25 * SECOND, "message.opened", channel, campaign, machine=True)
        if channel == "email" and random() < 0.4:
            feed.message(at + opened_after, "message.opened", channel, campaign)
            if random() < 0.25:
                feed.message(at + opened_after + 30 * SECOND, "message.clicked", channel, campaign)

    def _change(self, at: int) -> None:
        """Send an opt-out, an opt-in or a move."""
        random, feed = self._random, self._feed
        what, which, unsubscribes = random(), random(), random() < 0.6
        if at + HOUR > self._ends_at or at < self._profile["updated_at"]:
            return
        granted = granted_channels(self._profile)
        if what < 0.55 and granted:
            channel = sorted(granted)[int(which * len(granted))]
            if unsubscribes:
                feed.message(at - 2 * SECOND, "customer.unsubscribed", channel, None)
            self._profile = with_consent(self._profile, channel, False, at)
        elif what < 0.85 and (missing := [channel for channel in CHANNELS if channel not in granted]):
            self._profile = with_consent(self._profile, missing[int(which * len(missing))], True, at)
        else:
            self._profile = moved(random, self._profile, at)
        feed.profile(self._profile)


def _worth(items: list[_Item], target: int, below: bool) -> tuple[list[_Item], int]:
    """Return the dearest items that reach the target, or stay below it, and their value."""
    items.sort(key=lambda item: -item.quantity * item.unit_price)
    chosen: list[_Item] = []
    value = 0
    for item in items:
        worth = item.quantity * item.unit_price
        if below and value + worth >= target:
            continue
        chosen.append(item)
        value += worth
        if value >= target or len(chosen) == _MOST_LINES:
            break
    return sorted(chosen), value

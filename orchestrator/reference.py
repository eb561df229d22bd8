"""Reference data as the engine sees it: products and snapshots, each version from its instant on."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping
from operator import attrgetter, itemgetter
from typing import Any, TypeVar

import msgspec

from orchestrator.events import FOREVER
from orchestrator.valuation import PolicySnapshot
from orchestrator.valuation import snapshot_of as policy_of

REFERENCE_SCHEMAS = ("product", "snapshot", "similar_products", "policy_leaf")
"""The schemas of the topics that a `Reference` is made of."""


class Product(msgspec.Struct, frozen=True, gc=False):
    """One version of one product; money in minor units, rates in basis points."""

    sku: str
    effective_from: int = 0
    category: str | None = None
    family: str | None = None
    price: int | None = None
    margin_rate_bp: int | None = None
    stock: int | None = None
    typical_days_of_supply: float | None = None
    launch_at: int | None = None
    name: str | None = None


class Reference:
    """Read-only view of products and of snapshots: `product(sku, at)` is the newest version effective then.

    What `forget` let go of is answered with the oldest version that is left. A restart reads the compacted topic, which
    has the newest version of each product only: of what was before that, it knows nothing.
    """

    __slots__ = (
        "_began", "_changes", "_cut_points", "_families", "_launches", "_leaves", "_policies", "_similar",
        "_similar_since", "_versions",
    )  # fmt: skip

    def __init__(self, products: Iterable[Product] = ()) -> None:
        self._versions: dict[str, list[Product]] = {}
        self._began: dict[str, int] = {}  # since when there were versions, where the first of them are forgotten
        self._changes: list[tuple[int, str]] = []
        self._launches: dict[str, list[tuple[int, str]]] = {}
        self._families: dict[str, float] = {}
        self._cut_points: dict[str, list[tuple[int, Mapping[str, int]]]] = {}
        self._policies: list[PolicySnapshot] = []  # the newest first
        self._leaves: dict[tuple[int, str], dict[str, Mapping[str, Any]]] = {}  # of versions that are not whole yet
        self._similar: dict[str, list[SimilarProducts]] = {}
        self._similar_since: list[tuple[int, str]] = []
        for product in products:
            self.put(product)

    def put(self, product: Product) -> None:
        """Add one version; the same sku and instant replaces."""
        if _insert(self._versions.setdefault(product.sku, []), product):
            insort(self._changes, (product.effective_from, product.sku))
        if product.launch_at is not None and product.category is not None:
            launches = self._launches.setdefault(product.category, [])
            if (launch := (product.launch_at, product.sku)) not in launches:
                insort(launches, launch)
        if product.family is not None and product.typical_days_of_supply is not None:
            self._families[product.family] = product.typical_days_of_supply

    def product(self, sku: str, at: int) -> Product | None:
        """Return the version of a product effective at an instant, or None."""
        versions = self._versions.get(sku)
        if versions is None:
            return None
        if versions[-1].effective_from <= at:
            return versions[-1]
        place = bisect_right(versions, at, key=_since)
        if place == 0:
            return versions[0] if self._began.get(sku, FOREVER) <= at else None
        return versions[place - 1]

    def versions(self, sku: str, since: int, until: int) -> list[Product]:
        """Return the versions of a product that began between two instants, both included, in order."""
        versions = self._versions.get(sku, [])
        return versions[bisect_left(versions, since, key=_since) : bisect_right(versions, until, key=_since)]

    def changes(self, after: int, until: int) -> list[tuple[int, str]]:
        """Return (instant, sku) of every version that began after an instant and not after another, in order."""
        changes = self._changes
        return changes[bisect_right(changes, after, key=_first) : bisect_right(changes, until, key=_first)]

    def count_changes(self, after: int, until: int) -> int:
        """Return how many versions of products began after an instant and not after another."""
        return bisect_right(self._changes, until, key=_first) - bisect_right(self._changes, after, key=_first)

    def next_launch(self, category: str, after: int, at: int) -> int | None:
        """Return the next instant after one at which something of a category goes on sale, as known at an instant."""
        launches = self._launches.get(category, [])
        for launch, sku in launches[bisect_right(launches, after, key=_first) :]:
            product = self.product(sku, at)
            if product is not None and (product.launch_at, product.category) == (launch, category):
                return launch
        return None

    def launched_together(self, category: str, launch: int, at: int) -> list[Product]:
        """Return what of a category goes on sale at an instant, as known at another, in order of skus."""
        launches = self._launches.get(category, [])
        begin, end = bisect_left(launches, launch, key=_first), bisect_right(launches, launch, key=_first)
        known = (self.product(sku, at) for _, sku in launches[begin:end])
        return [one for one in known if one is not None and (one.launch_at, one.category) == (launch, category)]

    def days_of_supply(self, family: str) -> float | None:
        """Return the typical days until a family runs out, or None where it is not consumed."""
        return self._families.get(family)

    def take(self, schema: str, record: Mapping[str, Any]) -> None:
        """Add a record of a topic with one of the `REFERENCE_SCHEMAS`."""
        if schema == "product":
            self.put(product_of(record))
        elif schema == "policy_leaf":
            self._take_leaf(record)
        elif schema == "similar_products":
            self.put_similar(similar_of(record))
        else:
            snapshot = snapshot_of(record)
            self.put_cut_points(snapshot.feature, snapshot.effective_from, snapshot.least)

    def put_cut_points(self, feature: str, effective_from: int, least: Mapping[str, int]) -> None:
        """Add one snapshot of where the bands of a quantile begin, over all customers."""
        others = [pair for pair in self._cut_points.get(feature, ()) if pair[0] != effective_from]
        self._cut_points[feature] = sorted([*others, (effective_from, least)], key=lambda pair: -pair[0])

    def cut_points(self, feature: str, at: int) -> Mapping[str, int] | None:
        """Return the least value of each band as of an instant, or None before the first snapshot."""
        if not self._cut_points:
            return None
        return next((least for since, least in self._cut_points.get(feature, ()) if since <= at), None)

    def put_policy(self, snapshot: PolicySnapshot) -> None:
        """Add one snapshot of what campaigns are worth; another one from the same instant on replaces it."""
        others = [one for one in self._policies if one.effective_from != snapshot.effective_from]
        self._policies = sorted([*others, snapshot], key=_since, reverse=True)

    def policy(self, at: int) -> PolicySnapshot | None:
        """Return what campaigns are worth as of an instant, or None before the first snapshot."""
        return next((snapshot for snapshot in self._policies if snapshot.effective_from <= at), None)

    def _take_leaf(self, record: Mapping[str, Any]) -> None:
        """Keep one leaf of a snapshot until all of them are there: half of one says nothing."""
        version = record["effective_from"], record["version"]
        leaves = self._leaves.setdefault(version, {})
        leaves[record["leaf"]] = record
        snapshot = policy_of(leaves.values())
        if snapshot is not None:
            del self._leaves[version]
            self.put_policy(snapshot)

    def put_similar(self, similar: SimilarProducts) -> None:
        """Add one snapshot of which products are close to one; the same sku and instant replaces."""
        if _insert(self._similar.setdefault(similar.sku, []), similar):
            insort(self._similar_since, (similar.effective_from, similar.sku))

    def similar(self, sku: str, at: int) -> tuple[SimilarProduct, ...]:
        """Return the products that are close to one as of an instant, the closest first; none where nobody knows."""
        there = self._similar.get(sku, ())
        return next((one.similar for one in reversed(there) if one.effective_from <= at), ())

    def forget(self, before: int) -> None:
        """Forget the versions and snapshots that were followed by others at an instant; as cheap as putting them."""
        changed = self._changes[: bisect_right(self._changes, before, key=_first)]
        del self._changes[: len(changed)]
        for sku in {sku for _, sku in changed}:
            versions = self._versions[sku]
            gone = versions[: bisect_right(versions, before, key=_since) - 1]
            if gone:
                del versions[: len(gone)]
                self._began[sku] = min(gone[0].effective_from, self._began.get(sku, FOREVER))
                self._forget_launches(sku, gone)
        for feature, snapshots in self._cut_points.items():
            later = sum(since > before for since, _ in snapshots)
            self._cut_points[feature] = snapshots[: later + 1]
        del self._policies[sum(one.effective_from > before for one in self._policies) + 1 :]
        in_force = self.policy(before)
        if in_force is not None and self._leaves:  # what another has taken the place of is whole no more
            since = in_force.effective_from
            self._leaves = {version: leaves for version, leaves in self._leaves.items() if version[0] >= since}
        followed = self._similar_since[: bisect_right(self._similar_since, before, key=_first)]
        del self._similar_since[: len(followed)]
        for sku in {sku for _, sku in followed}:
            there = self._similar[sku]
            del there[: bisect_right(there, before, key=_since) - 1]

    def _forget_launches(self, sku: str, gone: Iterable[Product]) -> None:
        known = {(version.category, version.launch_at) for version in self._versions[sku]}
        for category, launch in {(version.category, version.launch_at) for version in gone} - known:
            if category is not None and launch is not None:
                self._launches[category].remove((launch, sku))

    def __len__(self) -> int:
        return len(self._versions)


_since = attrgetter("effective_from")
_first = itemgetter(0)


class Snapshot(msgspec.Struct, frozen=True):
    """Where the bands of a quantile begin from an instant on, over all customers; `least` leaves out the lowest.

    `of` is the feature that the customers were ordered by, `customers` of how many it was known.
    """

    feature: str
    effective_from: int
    least: Mapping[str, int]
    of: str = ""
    customers: int = 0
    definitions_version: str = ""


class SimilarProduct(msgspec.Struct, frozen=True, gc=False):
    """Another product and how close it is: the cosine of the two sets of buyers, shrunk, in basis points."""

    sku: str
    closeness_bp: int


class SimilarProducts(msgspec.Struct, frozen=True, gc=False):
    """Which products are close to one from an instant on, the closest first; `buyers` is how many bought it."""

    sku: str
    effective_from: int
    similar: tuple[SimilarProduct, ...] = ()
    buyers: int = 0


Version = TypeVar("Version", Product, SimilarProducts)


def _insert(versions: list[Version], version: Version) -> bool:
    """Put a version in its place among others, or in place of the one of its instant; return whether it is new."""
    place = bisect_left(versions, version.effective_from, key=_since)
    if place < len(versions) and versions[place].effective_from == version.effective_from:
        versions[place] = version
        return False
    versions.insert(place, version)
    return True


def product_of(record: Mapping[str, Any]) -> Product:
    """Return the product that a record of the `products` topic describes."""
    return msgspec.convert(dict(record), Product)


def snapshot_of(record: Mapping[str, Any]) -> Snapshot:
    """Return the snapshot that a record of the `snapshots` topic describes."""
    return msgspec.convert(dict(record), Snapshot)


def similar_of(record: Mapping[str, Any]) -> SimilarProducts:
    """Return what a record of the `similar-products` topic says of a product."""
    return msgspec.convert(dict(record), SimilarProducts)

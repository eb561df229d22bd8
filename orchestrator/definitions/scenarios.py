"""`*.test.yaml`: histories with expectations, decoded with the places of everything that a failure may name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.definitions import nodes
from orchestrator.definitions.catalogue import CATALOGUE, Catalogue
from orchestrator.definitions.features import CUT_PARSERS
from orchestrator.definitions.nodes import Place, Problems, Scalar, did_you_mean
from orchestrator.definitions.values import milliseconds, minor_units, shown
from orchestrator.events import PROFILE
from orchestrator.program import Definitions
from orchestrator.reference import Snapshot
from orchestrator.valuation import EVERYBODY, PROVEN, START, ArmValue, LeafValue, PolicySnapshot, arm_of

DEFAULT_START = 1_741_003_200_000
"""2025-03-03T12:00Z, a Monday at noon: what relative times count from, unless the test names a `start`."""

MOMENT_STATES = ("absent", "waiting", "open", "acted", "cancelled", "expired", "unmet")
CAMPAIGN_STATES = ("chosen", "control", "not_sent", "retracted", "removed")

_RELATIVE = re.compile(r"\+?([0-9]{1,9}ms|[0-9]{1,5}[smhdw]){1,9}")
_PARTS = re.compile(r"[0-9]+(?:ms|s|m|h|d|w)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_FIRST_YEAR, _LAST_YEAR = 1970, 2100
_FIELDS = ("name", "start", "products", "given", "expect")
_LINE = ("sku", "quantity", "price", "margin")
_PRODUCT = ("sku", "category", "family", "price", "stock", "typical_days_of_supply", "launch_at")
_PROFILE = ("birth_date", "time_zone", "country", "city", "consent", "attributes")
_DEFAULT_CUSTOMER = "ana"

EVERYBODY_WORD = "everybody"
"""What all customers together are called in a test."""


@dataclass(frozen=True, slots=True)
class Given:
    """Something that happened: an event that arrives at an instant, a campaign that was decided, or what was told of a
    product (`product`), where the bands of a quantile begin from then on (`snapshot`), or what campaigns are worth
    from then on (`policy`).
    """

    place: Place
    customer: str
    at: int
    arrives: int
    event: str
    data: Mapping[str, Any]
    decided: str | None = None
    product: Mapping[str, Any] | None = None
    snapshot: Snapshot | None = None
    policy: PolicySnapshot | None = None


@dataclass(frozen=True, slots=True)
class Expect:
    """What must hold at an instant, about a moment, a campaign, or all triggers so far."""

    place: Place
    customer: str | None
    at: int
    moment: str | None = None
    campaign: str | None = None
    state: str = ""
    key: str | None = None
    because: str | None = None
    by: str | None = None
    offer: str | None = None
    step: str = ""
    triggers: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """One test: products, what happened, and what must be true."""

    place: Place
    name: str
    products: tuple[Mapping[str, Any], ...]
    given: tuple[Given, ...]
    expect: tuple[Expect, ...]


def parse_scenarios(
    text: str, path: str, definitions: Definitions, problems: Problems, catalogue: Catalogue = CATALOGUE
) -> list[Scenario]:
    """Return the tests of a file; whatever is wrong in it is noted, and the test it is in left out."""
    root = nodes.parse(text, path, problems)
    if root is None:
        return []
    if not isinstance(root, nodes.Mapping) or set(root.keys) != {"tests"}:
        problems.error(Place(path), "E012", "a test file has one section, 'tests': a list of tests")
        return []
    tests = root.entries.get("tests")
    if not isinstance(tests, nodes.Sequence) or not tests.items:
        problems.error(root.place, "E014", "'tests' is empty: write at least one test, starting with '- name: ...'")
        return []
    reader = _Reader(definitions, problems, catalogue)
    found = [reader.scenario(node) for node in tests]
    return [scenario for scenario in found if scenario is not None]


class _Reader:
    def __init__(self, definitions: Definitions, problems: Problems, catalogue: Catalogue) -> None:
        self.definitions = definitions
        self.problems = problems
        self.catalogue = catalogue
        self.start = DEFAULT_START

    def scenario(self, node: nodes.Node) -> Scenario | None:
        before = len(self.problems.found)
        fields = self._fields(node, "a test", _FIELDS, ("name", "given", "expect"))
        self.start = DEFAULT_START
        if "start" in fields:
            self.start = self._instant(fields["start"], relative=False)
        products = tuple(self._product(item) for item in self._items(fields.get("products")))
        given = tuple(self._given(item) for item in self._items(fields.get("given")))
        expect = tuple(self._expect(item) for item in self._items(fields.get("expect")))
        if "expect" in fields and not expect:
            self.problems.error(
                fields["expect"].place, "E014", "'expect' is empty: a test that expects nothing says nothing"
            )
        if len(self.problems.found) > before:
            return None
        return Scenario(node.place, self._text(fields.get("name")), products, given, expect)

    # --- given ---

    def _given(self, node: nodes.Node) -> Given:
        if not isinstance(node, nodes.Mapping):
            self.problems.error(node.place, "E012", "write what happened as fields: { at: 0m, event: cart.item_added }")
            node = nodes.Mapping(node.place, {}, {})
        fields = dict(node.entries)
        customer = self._text(fields.pop("customer", None)) or _DEFAULT_CUSTOMER
        at = self._instant(fields.pop("at", None), place=node.place)
        arrives_node = fields.pop("arrives", None)
        arrives = at if arrives_node is None else self._instant(arrives_node)
        if "decided" in fields:
            campaign = self._known(fields.pop("decided"), self.definitions.campaigns, "campaign", "E027")
            self._nothing_else(fields, "a decided campaign")
            return Given(node.place, customer, at, arrives, "", {}, campaign)
        if "profile" in fields:
            data = self._profile(fields.pop("profile"), at)
            self._nothing_else(fields, "a profile")
            return Given(node.place, customer, at, arrives, PROFILE, data)
        if "product" in fields:
            product = self._product(fields.pop("product"))
            self._nothing_else(fields, "a product")
            return Given(node.place, "", at, arrives, "", {}, product=product)
        if "snapshot" in fields:
            snapshot = self._snapshot(fields.pop("snapshot"), fields, at)
            return Given(node.place, "", at, arrives, "", {}, snapshot=snapshot)
        if "policy" in fields:
            policy = self._policy(fields.pop("policy"), at)
            self._nothing_else(fields, "a policy")
            return Given(node.place, "", at, arrives, "", {}, policy=policy)
        event_node = fields.pop("event", None)
        if event_node is None:
            self.problems.error(
                node.place,
                "E011",
                "'event', 'profile', 'product', 'snapshot', 'policy' or 'decided' is missing: say what happened",
            )
            return Given(node.place, customer, at, arrives, "", {})
        event = self._known(event_node, self.catalogue.events, "event", "E040")
        return Given(node.place, customer, at, arrives, event, self._properties(event, fields, node))

    def _snapshot(self, node: nodes.Node, cuts: Mapping[str, nodes.Node], at: int) -> Snapshot:
        """Return where the bands of a quantile begin: each but the lowest is a field."""
        features = self.definitions.features
        quantiles = {name: feature for name, feature in features.items() if feature.kind == "quantile"}
        name = self._known(node, quantiles, "quantile", "E043")
        if name not in quantiles:
            return Snapshot(name, at, {})
        parse = CUT_PARSERS[features[quantiles[name].of or ""].unit]
        *upper, _ = (band for band, _ in quantiles[name].bands)
        least: dict[str, int] = {}
        for band, cut in cuts.items():
            if band not in upper:
                near = did_you_mean(band, upper)
                self.problems.error(cut.place, "E044", f"'{band}' is no band of {name} above the lowest{near}")
            elif isinstance(cut, Scalar):
                begins = parse(cut, self.problems)
                least[band] = begins if isinstance(begins, int) else 0
        for band in upper:
            if band not in least:
                self.problems.error(node.place, "E011", f"the snapshot of {name} has no '{band}', or no plain value")
        return Snapshot(name, at, least)

    def _policy(self, node: nodes.Node, at: int) -> PolicySnapshot:
        """Return what each campaign is worth beyond sending nothing, by which customers are alike."""
        wanted = "policy: { everybody: { cart_rescue: 3.50, gift+pct_10: -1.20 } }"
        if self.definitions.policy.method == "priority":
            said = "what campaigns are worth has no effect under `method: priority`"
            self.problems.error(node.place, "E051", said)
        leaves: dict[str, LeafValue] = {}
        if not isinstance(node, nodes.Mapping) or not node.entries:
            self.problems.error(node.place, "E012", f"what campaigns are worth is written like {wanted}")
        for leaf, worth in node.entries.items() if isinstance(node, nodes.Mapping) else ():
            named = tuple(part.partition("=")[0] for part in leaf.split(";"))
            if leaf != EVERYBODY_WORD and named != self.definitions.policy.by:
                by = ";".join(f"{name}=..." for name in self.definitions.policy.by)
                like = f"everybody or '{by}', by what the policy says" if by else "everybody, the policy names no other"
                self.problems.error(worth.place, "E044", f"{shown(leaf)} are no customers who are alike: {like}")
            if not isinstance(worth, nodes.Mapping):
                self.problems.error(worth.place, "E012", f"what campaigns are worth is written like {wanted}")
                continue
            arms = dict(self._worth(name, amount) for name, amount in worth.entries.items())
            leaves["" if leaf == EVERYBODY_WORD else leaf] = LeafValue(arms, {START: (0.0,)})
        leaves.setdefault(EVERYBODY, LeafValue({}, {START: (0.0,)}))
        return PolicySnapshot(at, at, self.definitions.version, 1, 0, leaves, version=f"given-{node.place.line}")

    def _worth(self, name: str, node: nodes.Node) -> tuple[str, ArmValue]:
        """Return the arm that a campaign is, perhaps with an offer, and what it is worth in the only world there is."""
        stem, _, offer = name.partition("+")
        campaign = self.definitions.campaigns.get(stem)
        if campaign is None:
            near = did_you_mean(stem, self.definitions.campaigns)
            self.problems.error(node.place, "E027", f"unknown campaign {shown(stem)}{near}")
        choices = () if campaign is None or campaign.offer is None else campaign.offer.choices
        if campaign is not None and (offer or choices) and offer not in choices:
            has = f"write one of {', '.join(f'{stem}+{one}' for one in choices)}" if choices else "it has no offers"
            self.problems.error(node.place, "E054", f"unknown offer {shown(offer)} of {stem}: {has}")
        text = self._text(node)
        amount = minor_units(text.removeprefix("-"))
        if amount is None:
            self.problems.error(node.place, "E021", f"{shown(text)} is no amount of money, write it like 4.90 or -4.90")
        gain = float(-(amount or 0) if text.startswith("-") else amount or 0)
        channel = "" if campaign is None else campaign.send.channel
        return arm_of(stem, offer, channel), ArmValue((gain,), 0.0, state=PROVEN)

    def _properties(self, event: str, fields: Mapping[str, nodes.Node], given: nodes.Mapping) -> dict[str, Any]:
        if event not in self.catalogue.events:
            return {}
        kinds = self.catalogue.events[event].properties
        data: dict[str, Any] = dict.fromkeys(kinds)
        if "machine" in kinds:
            data["machine"] = False
        for name, node in fields.items():
            if name not in kinds:
                near = did_you_mean(name, kinds)
                self.problems.error(given.keys[name], "E041", f"{event} has no property {shown(name)}{near}")
            else:
                data[name] = self._value(node, kinds[name])
        if event.startswith("order."):
            data["lines"] = data["lines"] or []
            data["order_id"] = data["order_id"] or f"order-{given.place.line}"
            if data["total"] is None:
                data["total"] = sum(line["price"] or 0 for line in data["lines"])
        if event.startswith(("message.", "customer.")):
            data["channel"] = data["channel"] or "email"
        return data

    def _value(self, node: nodes.Node, kind: str) -> Any:
        if kind == "lines":
            return [self._line(item) for item in self._items(node)]
        if kind == "instant":
            return self._instant(node)
        text = self._text(node)
        if kind == "money":
            amount = minor_units(text)
            if amount is None:
                self.problems.error(
                    node.place, "E021", f"{shown(text)} is not an amount of money, write it like 5 or 4.90"
                )
            return amount
        if kind == "number":
            if not re.fullmatch(r"-?[0-9]{1,15}", text):
                self.problems.error(node.place, "E025", f"{shown(text)} is not a whole number, write it like 3")
                return None
            return int(text)
        if kind == "truth" and text not in ("true", "false"):
            self.problems.error(node.place, "E029", f"{shown(text)} is neither true nor false")
        return text == "true" if kind == "truth" else text

    def _line(self, node: nodes.Node) -> dict[str, Any]:
        fields = self._fields(node, "an order's line", _LINE, ("sku",))
        line = {"sku": self._text(fields.get("sku")), "quantity": 1, "price": 0, "margin": None}
        for name, kind in (("quantity", "number"), ("price", "money"), ("margin", "money")):
            if name in fields:
                line[name] = self._value(fields[name], kind)
        return line

    def _product(self, node: nodes.Node) -> dict[str, Any]:
        fields = self._fields(node, "a product", _PRODUCT, ("sku",))
        product: dict[str, Any] = {
            name: self._text(fields[name]) for name in ("sku", "category", "family") if name in fields
        }
        if "price" in fields:
            product["price"] = self._value(fields["price"], "money")
        for name in ("stock", "typical_days_of_supply"):
            if name in fields:
                product[name] = self._value(fields[name], "number")
        if "launch_at" in fields:
            product["launch_at"] = self._instant(fields["launch_at"])
        return product

    def _profile(self, node: nodes.Node, at: int) -> dict[str, Any]:
        fields = self._fields(node, "a profile", _PROFILE, ())
        data: dict[str, Any] = {name: self._text(fields[name]) for name in _PROFILE[:4] if name in fields}
        granted: dict[str, bool] = {}
        consent = fields.get("consent")
        if isinstance(consent, nodes.Mapping):
            for channel, answer in consent.entries.items():
                word = self._text(answer)
                if word not in ("granted", "refused"):
                    self.problems.error(answer.place, "E027", f"{shown(word)} is neither granted nor refused")
                granted[channel] = word == "granted"
        data["consents"] = [
            {"channel": channel, "purpose": "marketing", "granted": yes, "at": at} for channel, yes in granted.items()
        ]
        attributes = fields.get("attributes")
        if isinstance(attributes, nodes.Mapping):
            data["attributes"] = {name: self._text(value) for name, value in attributes.entries.items()}
        return data

    # --- expect ---

    def _expect(self, node: nodes.Node) -> Expect:
        known = ("at", "customer", "moment", "campaign", "step", "is", "key", "because", "by", "offer", "triggers")
        fields = self._fields(node, "an expectation", known, ("at",))
        customer = self._text(fields["customer"]) if "customer" in fields else None
        at = self._instant(fields.get("at"), place=node.place)
        key = self._text(fields["key"]) if "key" in fields else None
        because = self._text(fields["because"]) if "because" in fields else None
        by = self._text(fields["by"]) if "by" in fields else None
        kinds = [kind for kind in ("moment", "campaign", "triggers") if kind in fields]
        if len(kinds) != 1:
            self.problems.error(node.place, "E013", "expect something about one of 'moment', 'campaign' and 'triggers'")
            return Expect(node.place, customer, at)
        if "triggers" in fields:
            names = tuple(
                self._known(item, self.definitions.campaigns, "campaign", "E027")
                for item in self._items(fields["triggers"])
            )
            return Expect(node.place, customer, at, triggers=names)
        states = MOMENT_STATES if "moment" in fields else CAMPAIGN_STATES
        if "is" not in fields:
            self.problems.error(node.place, "E011", f"'is' is missing: one of {', '.join(states)}")
        state = self._known(fields["is"], dict.fromkeys(states), "state", "E027") if "is" in fields else ""
        if "moment" in fields:
            moment = self._known(fields["moment"], self.definitions.moments, "moment", "E045")
            return Expect(node.place, customer, at, moment=moment, state=state, key=key, because=because, by=by)
        campaign = self._known(fields["campaign"], self.definitions.campaigns, "campaign", "E027")
        about = self.definitions.campaigns.get(campaign)
        choices = dict.fromkeys(() if about is None or about.offer is None else about.offer.choices)
        steps = dict.fromkeys(() if about is None else (step.name for step in about.series))
        step = self._known(fields["step"], steps, "step", "E057") if "step" in fields else ""
        offer = self._known(fields["offer"], choices, "offer", "E054") if "offer" in fields else None
        return Expect(
            node.place,
            customer,
            at,
            campaign=campaign,
            state=state,
            key=key,
            because=because,
            by=by,
            offer=offer,
            step=step,
        )

    # --- shapes ---

    def _fields(
        self, node: nodes.Node, what: str, known: tuple[str, ...], required: tuple[str, ...]
    ) -> dict[str, nodes.Node]:
        if not isinstance(node, nodes.Mapping):
            self.problems.error(node.place, "E012", f"{what} is written as fields: {', '.join(known)}")
            return {}
        for name, place in node.keys.items():
            if name not in known:
                near = did_you_mean(name, known)
                self.problems.error(place, "E010", f"unknown field {shown(name)} in {what}{near}")
        for name in required:
            if name not in node.keys:
                self.problems.error(node.place, "E011", f"{what} needs '{name}'")
        return dict(node.entries)

    def _items(self, node: nodes.Node | None) -> tuple[nodes.Node, ...]:
        if node is None:
            return ()
        if not isinstance(node, nodes.Sequence):
            self.problems.error(node.place, "E012", "a list is meant here")
            return ()
        return node.items

    def _nothing_else(self, fields: Mapping[str, nodes.Node], what: str) -> None:
        for name, node in fields.items():
            self.problems.error(node.place, "E010", f"unknown field {shown(name)} beside {what}")

    def _text(self, node: nodes.Node | None) -> str:
        if node is None:
            return ""
        if not isinstance(node, Scalar):
            self.problems.error(node.place, "E012", "a plain value is meant here")
            return ""
        return node.text

    def _known(self, node: nodes.Node, known: Mapping[str, Any], what: str, code: str) -> str:
        text = self._text(node)
        if text not in known:
            self.problems.error(node.place, code, f"unknown {what} {shown(text)}{did_you_mean(text, known)}")
        return text

    def _instant(self, node: nodes.Node | None, *, place: Place | None = None, relative: bool = True) -> int:
        """Return an instant in milliseconds: `90m` or `1d2h` after the start, or `2025-03-01T10:00Z`."""
        if node is None:
            self.problems.error(place or Place(""), "E011", "'at' is missing: say when, like 90m or 2025-03-01T10:00Z")
            return self.start
        text = self._text(node)
        try:
            if relative and _RELATIVE.fullmatch(text):
                instant = _EPOCH + timedelta(milliseconds=self.start + sum(map(_length, _PARTS.findall(text))))
            else:
                instant = datetime.fromisoformat(text)
        except (ValueError, OverflowError):
            wanted = "90m after the start, or 2025-03-01T10:00Z" if relative else "2025-03-01T10:00Z"
            self.problems.error(node.place, "E024", f"{shown(text)} is not an instant, write it like {wanted}")
            return self.start
        aware = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
        if not _FIRST_YEAR <= aware.year < _LAST_YEAR:
            years = f"between the years {_FIRST_YEAR} and {_LAST_YEAR}"
            self.problems.error(node.place, "E016", f"{shown(text)} is too far away, tests happen {years}")
            return self.start
        return (aware - _EPOCH) // _MILLISECOND


def _length(part: str) -> int:
    if part.endswith("ms"):
        return int(part[:-2])
    length = milliseconds(part)
    assert length is not None
    return length

"""The one table of fields: parsing, lint, the Markdown reference and the JSON Schema all come from here.

A kind is a sort of object. Kinds called `family/head` are the alternatives of a family, told apart by the field that
is their head: a feature with `count` is a `feature/count`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.definitions.content import CONTENT
from orchestrator.features import PER_LINE_KEYS
from orchestrator.rhythm import STAGES


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its type is a plain value's (values.PARSERS) or one of those in `TYPES`.

    `kind` is the kind or family of object that may stand here; `many` lets a list stand here; `options` are the words
    of a choice; `planned` are words that the language will have, or their beginnings up to a `:` or `.`; `low` and
    `high` are bounds as the type is written. A required field may be `spared` by another, or by a word there: `series`,
    `class: legal`.
    """

    name: str
    type: str
    description: str
    example: str
    required: bool = False
    default: str = ""
    kind: str = ""
    many: bool = False
    options: tuple[str, ...] = ()
    planned: tuple[str, ...] = ()
    low: str = ""
    high: str = ""
    spared: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Kind:
    """One sort of object; `planned` are fields that the language will have and that are refused until then."""

    name: str
    description: str
    fields: tuple[Field, ...]
    planned: tuple[str, ...] = ()

    @property
    def head(self) -> str:
        """The field that tells this kind from the others of its family, or nothing."""
        return self.name.partition("/")[2]

    def field(self, name: str) -> Field | None:
        """Return the field of that name, or None."""
        return next((field for field in self.fields if field.name == name), None)


TYPES: Mapping[str, str] = {
    "duration": "a length of time: 30m, 1h, 7d, 2w",
    "window": "a length of time, or the word window",
    "offset": "a time before or after a date: -5d, +3d",
    "days": "whole days before or after a date: -6d, 0d",
    "months": "a number of months: 12m",
    "money": "an amount of the program's currency: 5 or 4.90",
    "percentage": "a share: 15%",
    "multiple": "a number: 2 or 2.5",
    "times": "how many times as much: 3x or 1.5x",
    "count": "a whole number",
    "time": 'a time of day in quotes: "21:00"',
    "date": 'a date in quotes: "1970-01-01"',
    "name": "a name: small letters, digits and _",
    "text": "text",
    "truth": "true or false",
    "currency": "the code of a currency that has hundredths: USD",
    "zone": "a time zone: America/New_York",
    "choice": "one of the words listed",
    "model": "one of the words listed, or topic:NAME",
    "event": "the name of an event",
    "property": "an event and one of its properties: order.placed.total",
    "profile": "a date of the profile: profile.birth_date",
    "condition": "a condition in quotes",
    "durations": "a length of time per topic",
    "shares": "names, each with a share from 0 to 1: { high: 0.90, low: 0 }",
    "amount": "a number, an amount or a length of time",
    "amounts": "names, each with a number, an amount or a length of time: { high: 400 }",
    "conditions": "names, each with a condition in quotes: { membership: \"lifecycle == 'new'\" }",
    "costs": "an amount; or names, each with an amount or a share of what is ordered: "
    '{ free_shipping: 4.90, pct_10: "10% of order" }',
    "object": "fields",
}
"""What each type is, in a marketer's words."""


def _where(of: str) -> Field:
    return Field("where", "condition", f"Which events {of}, by their properties.", '"not machine"')


_OVER = Field(
    "over", "duration", "How far back it looks; for ever when left out.", "365d", low="1m", high="1100d"
)  # fmt: skip
_KEY = Field("key", "name", "What it is kept per: one value for each cart, sku, category or family.", "cart_id")

DAYS = ("day", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
"""What a schedule may come every."""

_FEATURES = (
    Kind("feature/count", "How many events there were.", (
        Field("count", "event", "The event, or several, that count.", "order.placed", required=True, many=True),
        _OVER, _KEY, _where("count"),
    )),
    Kind("feature/sum", "The total of a number or an amount that events carry.", (
        Field("sum", "property", "The property that is added up.", "order.placed.total", required=True),
        _OVER, _KEY, _where("count"),
    )),
    Kind("feature/latest", "The newest value that an event carried.", (
        Field("latest", "property", "The property whose newest value is kept.", "cart.item_added.cart_total",
              required=True),
        _KEY, _where("count"),
    )),
    Kind("feature/first_time", "When something happened for the first time.", (
        Field("first_time", "event", "The event, or several.", "order.placed", required=True, many=True),
        _KEY, _where("count"),
    )),
    Kind("feature/last_time", "When something happened for the last time.", (
        Field("last_time", "event", "The event, or several.", "[message.clicked, message.opened]", required=True,
              many=True),
        _KEY, _where("count"),
    )),
    Kind("feature/age_of", "How long ago something happened; unknown before it did.", (
        Field("age_of", "object", "The instant it counts from.", "{ first_time: order.placed }", required=True,
              kind="instant"),
    )),
    Kind("feature/median_gap", "The customer's own rhythm: the median time between two events.", (
        Field("median_gap", "event", "The event whose gaps are measured.", "order.placed", required=True, many=True),
        Field("min_samples", "count", "How many gaps it takes before the customer's own rhythm counts.", "3",
              default="1", low="1", high="9"),
        Field("else", "duration", "The value until then; unknown when left out.", "60d", low="1m", high="1100d"),
        _KEY, _where("count"),
    )),
    Kind("feature/predict", "Something about the future, estimated from the past.", (
        Field("predict", "choice", "What is predicted: when the next order is due, or the probability from 0 to 1 that "
              "there will be one.", "next_order_date", required=True, options=("next_order_date", "p_alive")),
        Field("key", "choice", "What a date is predicted per; a probability has no key.", "product_family",
              options=("product_family", "sku", "category")),
        Field("from", "event", "The event whose next time is predicted.", "order.placed", required=True, many=True),
        Field("model", "model", "How: pooled_gap pools the customer's own gaps with the typical one of the family or "
              "sku, a category has none; bg_nbd is the model of that name with the published parameters of the CDNOW "
              "customers. Or topic:NAME, an input whose event tells next_order_date or p_alive: the newest counts.",
              "pooled_gap", options=("pooled_gap", "bg_nbd")),
        Field("min_samples", "count", "How many orders it takes before the customer's own gaps count; 2 when left out.",
              "2", low="1", high="100"),
        Field("else", "choice", "What stands in until then.", "product.typical_days_of_supply",
              options=("product.typical_days_of_supply",)),
        _where("count"),
    )),
    Kind("feature/distinct", "How many different ones there were: categories, products, shops; 100 at most.", (
        Field("distinct", "name", "What is told apart.", "category", required=True),
        Field("from", "event", "The event, or several, that name it.", "order.placed", required=True, many=True),
        _OVER, _where("count"),
    )),
    Kind("feature/quantile", "Which part of all customers somebody belongs to, going by another feature.", (
        Field("quantile", "name", "The feature they are ordered by: a number, an amount or a length of time.",
              "spend_365d", required=True),
        Field("bands", "shares", "The bands' names, and the share of customers below each: 0.90 is the highest tenth.",
              "{ high: 0.90, mid: 0.50, low: 0 }", required=True),
        Field("cut_points", "amounts", "The least value of each band but the lowest, until a snapshot of all customers "
              "tells it; without either the band is unknown.", "{ high: 400, mid: 120 }"),
    )),
    Kind("feature/stage", "Where somebody stands in their life as a customer, relative to their own rhythm. new: no "
         "order yet, or one in the last 30 days. lapsed: silent for twice their own median gap between orders, at "
         "least 45 and at most 365 days. at_risk: silent for three quarters of that. hero: neither, with six or more "
         "orders in the last 365 days. active: all others. Before three gaps are known the median gap counts as 60 "
         "days.", (
        Field("stage", "choice", "The stages to tell apart, active among them. Of those left out, lapsed counts as "
              "at_risk, and all others as active.", "[new, active, hero, at_risk, lapsed]", required=True, many=True,
              options=STAGES),
        Field("from", "event", "The event that is counted.", "order.placed", required=True, many=True),
        _where("count"),
    )),
    Kind("instant/first_time", "The first time something happened.", (
        Field("first_time", "event", "The event, or several.", "order.placed", required=True, many=True),
        _where("count"),
    )),
    Kind("instant/last_time", "The last time something happened.", (
        Field("last_time", "event", "The event, or several.", "order.placed", required=True, many=True),
        _where("count"),
    )),
)  # fmt: skip

_SEGMENTS = (
    Kind("segment", "A named group of customers, always current.", (
        Field("say", "text", "The group in the words that explanations use.", '"First 30 days, at most one order"',
              required=True),
        Field("is", "condition", "Who belongs to it.", '"orders_lifetime <= 1"', required=True),
    )),
)  # fmt: skip

_MOMENT = Field("moment", "name", "The moment's name.", "abandoned_cart", required=True)
_SAY = Field("say", "text", "The sentence that explanations use.", '"Put things in the cart and did not buy"',
             required=True)  # fmt: skip
_ONLY_IF = Field("only_if", "condition", "A condition that must hold when it opens and when it is answered.",
                 '"cart_value >= 20"')  # fmt: skip
_CANCELLED_BY = Field("cancelled_by", "object", "Events, or a state of the product, that end it at once.",
                      "{ event: customer.unsubscribed }", kind="ending", many=True)  # fmt: skip
_MOMENT_KEY = Field("key", "name", "What there is one instance per: a cart, a sku, a family.", "cart_id")
_LASTS = Field("lasts", "duration", "How long it may be acted on; afterwards it is stale.", "48h", required=True,
               low="1m", high="1100d")  # fmt: skip
_LASTS_WINDOW = Field("lasts", "window", "How long it may be acted on: a time, or window for all of its own window.",
                      "window", required=True, low="1m", high="1100d")  # fmt: skip
_AGAIN = Field("again", "object", "The least time between two openings; none when left out.",
               "{ at_most_every: 30d }", kind="again/at_most_every")  # fmt: skip

_MATCHING = Field("matching", "name", "Only events that carry the moment's own key; any event of that customer when "
                  "left out.", "cart_id")  # fmt: skip
_EVENT = Field("event", "event", "The event, or several.", "order.placed", required=True, many=True)

_UNLESS = Field("unless", "object", "An event that makes it pointless, and how long to wait for that.",
                "{ event: order.placed, within: 30m }", kind="absence")  # fmt: skip
_TALLY_OVER = Field("over", "duration", "How far back it looks.", "3d", required=True, low="1m", high="1100d")

_STATE = (
    Field("state", "choice", "What is looked at.", "product.stock", required=True, options=("product.stock",)),
    Field("key", "choice", "Of which product: the moment's own.", "sku", default="sku", options=("sku",)),
    Field("between", "count", "The least and the most, both included.", "[1, 10]", many=True),
    Field("equals", "count", "Exactly this.", "0"),
)  # fmt: skip

_MOMENTS = (
    Kind("moment/starts_on", "Something began, and what should follow did not come in time.", (
        _MOMENT, _SAY, _MOMENT_KEY,
        Field("starts_on", "object", "The event that begins it.", "{ event: cart.item_added }", required=True,
              kind="start"),
        Field("restarts_on", "object", "The event that makes the time count anew.", "{ event: cart.item_added }",
              kind="start"),
        Field("unless", "object", "The event that must not come, and within which time.",
              "{ event: order.placed, within: 1h }", required=True, kind="absence"),
        _ONLY_IF, _CANCELLED_BY, _LASTS, _AGAIN,
    )),
    Kind("moment/absent", "Silence, relative to the customer's own rhythm.", (
        _MOMENT, _SAY,
        Field("absent", "object", "The event that stays away, and for how long.",
              "{ event: order.placed, for: { times: 2.0, of: order_gap, min: 45d, max: 365d } }", required=True,
              kind="silence"),
        _ONLY_IF, _CANCELLED_BY, _LASTS,
        Field("again", "object", "What re-arms it: the event whose absence it is.", "{ after_event: order.placed }",
              kind="again/after_event"),
    )),
    Kind("moment/around", "A window around a date that was predicted, or that an event told.", (
        _MOMENT, _SAY,
        Field("key", "name", "What there is one window per; the same key as the feature's.", "product_family",
              required=True),
        Field("around", "object", "The date, and where the window begins and ends.",
              "{ date: reorder_due, from: -5d, to: +3d }", required=True, kind="around"),
        Field("unless", "object", "The event that makes it pointless.",
              "{ event: order.placed, matching: product_family, within: window }", kind="unless_in_window"),
        _ONLY_IF, _CANCELLED_BY,
        Field("pick_one", "object", "When several keys are due at once, which one to talk about.",
              "{ by: expected_margin, at_most_every: 14d }", kind="pick_one"),
        _LASTS_WINDOW, _AGAIN,
    )),
    Kind("moment/calendar", "A date that comes every year, on the customer's own clock.", (
        _MOMENT, _SAY,
        Field("calendar", "object", "The date, and the days around it.",
              '{ date: profile.birth_date, repeats: yearly, from: -6d, to: 0d, at: "09:00" }', required=True,
              kind="calendar"),
        _ONLY_IF, _CANCELLED_BY, _LASTS_WINDOW,
        Field("again", "object", "What re-arms it: the next year.", "{ every: 1y }", kind="again/every"),
    )),
    Kind("moment/count", "So many events within a time; it opens with the one that makes them enough.", (
        _MOMENT, _SAY, _MOMENT_KEY,
        Field("count", "object", "Which events, within which time, and how many.",
              "{ event: product.viewed, over: 3d, at_least: 3 }", required=True, kind="tally"),
        _UNLESS, _ONLY_IF, _CANCELLED_BY, _LASTS, _AGAIN,
    )),
    Kind("moment/sum", "So much within a time; it opens with the event that makes it enough.", (
        _MOMENT, _SAY, _MOMENT_KEY,
        Field("sum", "object", "Which property is added up, within which time, and how much.",
              "{ property: order.placed.total, over: 30d, at_least: 200 }", required=True, kind="total"),
        _UNLESS, _ONLY_IF, _CANCELLED_BY, _LASTS, _AGAIN,
    )),
    Kind("moment/sequence", "Events one after the other; it opens with the last, or a wait after it.", (
        _MOMENT, _SAY, _MOMENT_KEY,
        Field("sequence", "object", "The events in their order, perhaps a state before the first or after the last, "
              "and a wait at the end.",
              "[{ event: order.placed }, { event: order.delivered, matching: order_id, within: 14d }]",
              required=True, kind="step", many=True),
        Field("unless", "object", "The event that breaks it off.",
              "{ event: order.returned, matching: order_id, within: sequence }", kind="unless_in_sequence"),
        _ONLY_IF, _CANCELLED_BY, _LASTS, _AGAIN,
    )),
    Kind("moment/either_order", "Events in any order, all within one time; it opens with the last of them.", (
        _MOMENT, _SAY, _MOMENT_KEY,
        Field("either_order", "object", "The events, perhaps a state of the product, and within which time.",
              "{ of: [{ event: product.viewed }, { event: cart.item_added }], within: 24h }", required=True,
              kind="either"),
        _UNLESS, _ONLY_IF, _CANCELLED_BY, _LASTS, _AGAIN,
    )),
    Kind("moment/during", "The window of another moment, for those for whom something holds: it opens with the other "
         "one, or when its condition comes true in that window, and ends with it.", (
        _MOMENT, _SAY,
        Field("during", "name", "The other moment.", "birthday_week", required=True),
        _ONLY_IF, _CANCELLED_BY, _LASTS_WINDOW,
    )),
    Kind("moment/entered", "A customer enters a segment, by an event or by time; it ends when they leave it again.", (
        _MOMENT, _SAY, Field("entered", "name", "The segment.", "heroes", required=True),
        _ONLY_IF, _CANCELLED_BY, _LASTS, _AGAIN,
        Field("include_current", "object", "Those who are in the segment already when this is published: so many come "
              "in per hour. Nobody when left out.", "{ max_per_hour: 500 }", kind="include_current"),
    )),
    Kind("moment/left", "A customer leaves a segment, by an event or by time; it ends when they are back.", (
        _MOMENT, _SAY, Field("left", "name", "The segment.", "heroes", required=True),
        _ONLY_IF, _CANCELLED_BY, _LASTS, _AGAIN,
    )),
    Kind("moment/schedule", "A day of the week, or every day, for those who are in a segment then; each at their own "
         "place in the time over which it is spread, always the same.", (
        _MOMENT, _SAY,
        Field("schedule", "object", "When, and for whom.",
              '{ every: monday, at: "10:00", segment: heroes, spread: 4h }', required=True, kind="schedule"),
        _ONLY_IF, _CANCELLED_BY, _LASTS, _AGAIN,
    )),
    Kind("schedule", "When, and for whom.", (
        Field("every", "choice", "Which day.", "monday", required=True, options=DAYS),
        Field("at", "time", "When it begins.", '"10:00"', required=True),
        Field("segment", "name", "Who it is for: those in this segment then.", "heroes", required=True),
        Field("spread", "duration", "Over how much time all of them are spread.", "4h", default="0d", high="24h"),
        Field("clock", "choice", "Whose clock.", "customer", default="customer", options=("customer",)),
    )),
    Kind("include_current", "How those who are there already come in.", (
        Field("max_per_hour", "count", "How many in an hour, over all partitions.", "500", required=True, low="1",
              high="1000000"),
    )),
    Kind("tally", "So many events within a time.", (
        _EVENT, _TALLY_OVER,
        Field("at_least", "count", "How many are enough.", "3", required=True, low="1", high="1000000"),
        _where("count"),
    )),
    Kind("total", "So much within a time.", (
        Field("property", "property", "The property that is added up.", "order.placed.total", required=True),
        _TALLY_OVER,
        Field("at_least", "amount", "How much is enough, in the property's own unit.", "200", required=True),
        _where("count"),
    )),
    Kind("step/event", "One event of a sequence.", (
        _EVENT, _MATCHING,
        Field("within", "duration", "Within which time after the one before; the first has none.", "14d", low="1m",
              high="365d"),
        Field("first_per", "choice", "Only the first order with something of this category, family or sku; for the "
              "first event. 500 of them are remembered.", "category", options=PER_LINE_KEYS),
        Field("as", "name", "A name for the event, for the reader.", "purchase"),
    )),
    Kind("step/state", "What must be true of the product: before the first event when that happens, after the last "
         "as soon as a change makes it so, in either order at the last event or later. A change reaches the 1000 "
         "customers of a partition who looked last.", (
        *_STATE,
        Field("within", "duration", "After the last event of a sequence: within which time.", "24h", low="1m",
              high="365d"),
    )),
    Kind("step/wait", "A wait after the last event.", (
        Field("wait", "duration", "How long.", "3d", required=True, low="1m", high="365d"),
    )),
    Kind("either", "Events in any order, perhaps with a state of the product.", (
        Field("of", "object", "The events, and at most one state.",
              "[{ event: product.viewed }, { event: cart.item_added }]", required=True, kind="step", many=True),
        Field("within", "duration", "Within which time all of them.", "24h", required=True, low="1m", high="365d"),
    )),
    Kind("unless_in_sequence", "What breaks a sequence off.", (
        _EVENT, _MATCHING,
        Field("within", "choice", "Until it opens, and after that: the only possibility.", "sequence",
              default="sequence", options=("sequence",)),
    )),
    Kind("start", "An event that begins something.", (_EVENT,)),
    Kind("ending/event", "Some events of the customer.", (_EVENT, _MATCHING)),
    Kind("ending/state", "A state of the product that a moment with `key: sku` is about.", _STATE),
    Kind("absence", "What should follow, and within which time.", (
        _EVENT, _MATCHING,
        Field("within", "duration", "How long to wait for it.", "1h", required=True, low="1m", high="365d"),
    )),
    Kind("unless_in_window", "What makes a window pointless.", (
        _EVENT, _MATCHING,
        Field("within", "choice", "During the window: the only possibility.", "window", default="window",
              options=("window",)),
    )),
    Kind("silence", "Which event stays away, and for how long.", (
        _EVENT,
        Field("for", "object", "How long: a multiple of the customer's own rhythm.",
              "{ times: 2.0, of: order_gap, min: 45d, max: 365d }", required=True, kind="rhythm"),
    )),
    Kind("rhythm", "A multiple of a feature that is a length of time, within bounds.", (
        Field("times", "multiple", "How many times the rhythm.", "2.0", required=True, low="0.1", high="100"),
        Field("of", "name", "The feature that is the rhythm.", "order_gap", required=True),
        Field("min", "duration", "At least this long.", "45d", required=True, low="1m", high="3650d"),
        Field("max", "duration", "At most this long.", "365d", required=True, low="1m", high="3650d"),
    )),
    Kind("around", "A window around a date.", (
        Field("date", "name", "The feature that is the date, or product.launch_at: when the next product of a category "
              "goes on sale. That is looked up once a day for who bought of that category: `only_if` says within which "
              "time, bought_within(category, 90d).", "reorder_due", required=True, options=("product.launch_at",)),
        Field("from", "offset", "When the window begins: before (-) or after (+) the date.", "-5d", required=True,
              low="-365d", high="365d"),
        Field("to", "offset", "When it ends.", "+3d", required=True, low="-365d", high="365d"),
        Field("matching", "choice", "With product.launch_at: products of which category; the moment's own key.",
              "category", options=("category",)),
    )),
    Kind("calendar", "Days around a yearly date.", (
        Field("date", "profile", "The date on the customer's profile.", "profile.birth_date", required=True),
        Field("repeats", "choice", "How often it comes.", "yearly", default="yearly", options=("yearly",)),
        Field("from", "days", "The first day: before (-) or after (+) the date.", "-6d", default="0d", low="-180d",
              high="180d"),
        Field("to", "days", "The last day.", "0d", default="0d", low="-180d", high="180d"),
        Field("at", "time", "When the first day begins.", '"09:00"', default="00:00"),
        Field("clock", "choice", "Whose clock.", "customer", default="customer", options=("customer",)),
        Field("feb_29", "choice", "When a 29 February comes in other years.", "feb_28", default="feb_28",
              options=("feb_28", "mar_1")),
        Field("ignore_dates", "date", "Dates that mean nobody knows; these never count.",
              '["1900-01-01", "1970-01-01"]', many=True),
    )),
    Kind("pick_one", "One of many at a time.", (
        Field("by", "choice", "What makes one the best.", "expected_margin", default="expected_margin",
              options=("expected_margin",)),
        Field("at_most_every", "duration", "The least time between two.", "14d", default="0d", high="365d"),
    )),
    Kind("again/after_event", "Re-arms with an event.", (
        Field("after_event", "event", "The event.", "order.placed", required=True, many=True),
    )),
    Kind("again/at_most_every", "Re-arms after a time.", (
        Field("at_most_every", "duration", "The least time between two openings, whatever their key.", "30d",
              required=True, low="1m", high="1100d"),
    )),
    Kind("again/every", "Re-arms with time.", (
        Field("every", "choice", "How often.", "1y", required=True, options=("1y",)),
    )),
)  # fmt: skip

_AFTER = Field("campaign", "name", "The other campaign.", "reorder_reminder", required=True)
_AFTER_WITHIN = Field(
    "within", "duration", "How long ago it may have been decided at most.", "180d", required=True, low="1h", high="730d"
)


def _true(name: str, description: str) -> Field:
    return Field(name, "choice", description, "true", required=True, options=("true",))


_EXEMPT = ("class: transactional", "class: legal")

_CAMPAIGNS = (
    Kind("campaign", "What we may do about a moment, and how we will know that it worked.", (
        Field("campaign", "name", "The campaign's name.", "cart_rescue", required=True),
        Field("when", "name", "The moment it answers, or several; a transactional or legal message answers an event.",
              "abandoned_cart", required=True, many=True, kind="occasion"),
        Field("priority", "count", "Which one wins when several are possible: the highest.", "80", default="50",
              low="0", high="1000"),
        Field("class", "choice", "What sort of message it is: transactional and legal ones need no slot, are under no "
              "cap and wait for no morning; who did not agree to them gets none.", "marketing", default="marketing",
              options=("marketing", "transactional", "legal")),
        Field("audience", "name", "The segment it is for; of several, any.", "newcomers", many=True),
        Field("only_if", "condition", "Who it is for.", "\"in_segment('newcomers')\""),
        Field("after", "object", "What must have become of another campaign before.",
              "{ campaign: reorder_reminder, responded: true, within: 180d }", kind="after"),
        Field("exclude", "object", "After which campaigns it stays away for a time.", "{ after: last_units, for: 7d }",
              kind="exclude", many=True),
        Field("send", "object", "What the sender is asked for.",
              "{ channel: email, template: cart_rescue, with: [cart_lines] }", required=True, kind="send",
              spared=("series",)),
        Field("series", "object", "Several messages, one after the other, in one slot: instead of `send`.",
              "[{ step: tease, send: { channel: email, template: tease } }, { step: preview, after: 7d, "
              "send: { channel: email, template: preview } }]", kind="series_step", many=True),
        Field("stop_when", "object", "Events that end the messages of a series at once, or lead out of an audience; "
              "the slot is held and measured to the end all the same.", "{ event: order.placed }", kind="stop",
              many=True),
        Field("recheck_before_send", "condition", "What must be true when a message goes out, each step of a series "
              "anew.", '"product.stock > 0"'),
        Field("offer", "object", "What it may give away, and to whom.", "{ choose: [none, free_shipping, pct_10] }",
              kind="offer"),
        Field("cost", "object", "What it costs per customer who gets it.", "{ send: 0.01, offer: 5.00 }", kind="cost"),
        Field("measure", "object", "What it is judged by, and for how long: the slot is held that long.",
              "{ objective: margin, for: 3d, guard: [unsubscribe] }", required=True, kind="measure", spared=_EXEMPT),
        Field("control", "percentage", "The share who get nothing, so that the rest can be compared with them.",
              "{ start: 15%, floor: 5% }", required=True, kind="control", low="1%", high="90%", spared=_EXEMPT),
        Field("cap", "object", "At most so many messages about one product, to all customers together; of a series the "
              "first counts.",
              "{ total: 200, per: sku, over: 1h }", kind="shared_cap"),
        Field("on_change", "choice", "What becomes of a running campaign when its definition is changed: its window "
              "ends as it was decided, and the steps of a series follow the change, or go on as they were (pin).",
              "follow", default="follow", options=("follow", "pin")),
        Field("leads_to", "name", "The campaigns that somebody who responded becomes eligible for.",
              "[cross_sell_discovery]", many=True),
        Field("grew_from", "name", "The campaign that this one was split from or replaces, which may be gone: what was "
              "learned of it is where learning begins.", "cart_rescue"),
    )),
    Kind("shared_cap", "At most so many messages in a time, whoever gets them. Every partition has a fixed "
         "share of the total, so that it is never exceeded; where the total is below their number, some have none.", (
        Field("total", "count", "How many.", "200", required=True, low="1", high="100000"),
        Field("per", "choice", "About one what: the key of the moment.", "sku", required=True, options=("sku",)),
        Field("over", "duration", "In which time.", "1h", required=True, low="1m", high="7d"),
    )),
    Kind("after/received", "Somebody to whom another campaign's message went, and was not taken back.", (
        _AFTER, _true("received", "They received it; the control group has not."), _AFTER_WITHIN,
    )),
    Kind("after/responded", "Somebody who responded to another campaign.", (
        _AFTER,
        _true("responded", "They received it and, before its window ended, clicked on it or placed an order of which "
              "something was kept."),
        _AFTER_WITHIN,
    )),
    Kind("after/ignored", "Somebody who ignored another campaign.", (
        _AFTER, _true("ignored", "They received it, its window is over, and they did not respond."), _AFTER_WITHIN,
    )),
    Kind("exclude", "Another campaign, and for how long this one stays away after it.", (
        Field("after", "name", "The other campaign; its control group counts as well.", "last_units", required=True),
        Field("for", "duration", "For how long after its decision.", "7d", required=True, low="1m", high="730d"),
    )),
    Kind("occasion", "An event that a transactional or legal message answers at once.", (_EVENT,)),
    Kind("series_step", "One message of a series. The first goes out with the decision; a later one when it is due, or "
         "as soon after that as quiet hours and caps allow and the next is not due.", (
        Field("step", "name", "The step's name.", "nudge", required=True),
        Field("after", "duration", "How long after the step before was due; the first has none.", "4d", low="1h",
              high="365d"),
        Field("unless", "object", "What makes this step pointless; the series goes on with the next.",
              "{ event: message.clicked, from: inspire }", kind="unless_before_step"),
        Field("send", "object", "What the sender is asked for.", "{ channel: push, template: discover_nudge }",
              required=True, kind="send"),
    )),
    Kind("stop", "An event that ends the messages of a series.", (_EVENT, _MATCHING)),
    Kind("unless_before_step", "What makes a step of a series pointless.", (
        _EVENT,
        Field("from", "name", "Only what is about the message of this earlier step.", "inspire"),
        Field("within", "duration", "How far back it looks, not beyond the first step; to the step before when left "
              "out, with `from` to that step.", "5d", low="1m", high="365d"),
    )),
    Kind("send", "What the sender is asked for.", (
        Field("channel", "name", "Through which channel; `audience` adds the customer to an audience, and removes them "
              "when they buy, at an event of `stop_when`, and when the window ends.", "email", required=True),
        Field("template", "name", "Which template the sender fills, or which audience it is.", "cart_rescue",
              required=True),
        Field("with", "choice", "Content that the sender is asked to put in.", "[cart_lines, recommended]", many=True,
              options=tuple(CONTENT)),
        Field("purpose", "name", "The purpose that the customer must have agreed to; the class when left out.",
              "marketing"),
    )),
    Kind("cost", "What one message costs.", (
        Field("send", "money", "Sending it.", "0.01", default="0"),
        Field("offer", "costs", "What it gives away, for each offer there is to choose from.",
              '{ free_shipping: 4.90, pct_10: "10% of order" }', default="0"),
    )),
    Kind("offer", "What a message may give away: the first that this customer may have, in the order listed.", (
        Field("choose", "name", "The offers, `none` among them when the message may go out without.",
              "[none, free_shipping, pct_10]", required=True, many=True),
        Field("only_if", "conditions", "For each, who may have it; unknown is no.",
              "{ membership: \"lifecycle == 'new'\" }"),
        Field("never_if", "conditions", "For each, who never gets it; unknown is no as well.",
              "{ pct_10: \"in_segment('heroes')\" }"),
    )),
    Kind("measure", "How we will know that it worked.", (
        Field("objective", "choice", "What is compared: money, orders, whether there was any (`conversions`), "
              "categories never bought before, or whether one was placed in the second half of the window "
              "(`retention`).",
              "margin", default="margin",
              options=("margin", "revenue", "orders", "conversions", "new_category", "retention")),
        Field("for", "duration", "For how long after the decision.", "7d", required=True, low="1m", high="365d"),
        Field("guard", "choice", "What must not get worse.", "[unsubscribe]", many=True,
              options=("unsubscribe", "margin")),
    )),
    Kind("control", "The control group: large at first, smaller once enough is known.", (
        Field("start", "percentage", "Its share at first.", "15%", required=True, low="1%", high="90%"),
        Field("floor", "percentage", "The least it may shrink to; the start when left out.", "5%", low="1%",
              high="90%"),
    )),
)  # fmt: skip

_POLICY = (
    Kind("program", "Money.", (
        Field("currency", "currency", "The one currency of all amounts; it has hundredths.", "USD", default="USD"),
        Field("metric", "choice", "What a customer is worth.", "margin", default="margin", options=("margin",),
              planned=("revenue",)),
        Field("assumed_margin", "percentage", "The margin of what has none of its own.", "30%", default="30%"),
        Field("amend_for", "duration", "How long a return or cancellation still corrects a result.", "60d",
              default="60d", high="365d"),
    )),
    Kind("one_at_a_time", "A customer has one campaign at a time.", (
        Field("holds_until", "choice", "When the next one may come; the control group waits as well.",
              "measure_ends", default="measure_ends", options=("measure_ends",)),
        Field("exempt", "choice", "Classes of message that need not wait; both when left out.",
              "[transactional, legal]", many=True, options=("transactional", "legal")),
        Field("interrupt", "choice", "Whether something much better may cut in.", "{ when_value_exceeds: 3x }",
              default="never", kind="interrupt", options=("never",)),
        Field("rest", "duration", "Quiet time after each campaign's window, which is measured without it.", "0d",
              default="0d", high="365d"),
    )),
    Kind("interrupt", "When a campaign may end the window of another, in treatment and control alike; neither is "
         "measured then.", (
        Field("when_value_exceeds", "times", "How many times the expected value of the running campaign it must have.",
              "3x", required=True, low="1x", high="1000x"),
    )),
    Kind("choose", "When several campaigns are possible at once.", (
        Field("method", "choice", "How one is chosen: the highest priority, or what is expected to earn most beyond "
              "sending nothing; or both, each for a share of the customers.", "expected_value", default="priority",
              kind="methods", options=("priority", "expected_value")),
        Field("by", "name", "The features and segments by which customers are told apart when learning: those with the "
              "same values are alike. Features of words, such as tiers and stages, and of true or false.",
              "[value_tier, heroes]", many=True),
        Field("split_on", "name", "The features among which sub-personas are looked for, 20 at most.",
              "[orders_lifetime, order_gap]", many=True),
        Field("horizon", "months", "How far ahead value counts.", "12m", default="12m", low="1m", high="60m"),
        Field("include_follow_ons", "object", "How much of what comes after counts.", "{ depth: 3, discount: 0.9 }",
              kind="follow_ons"),
        Field("none_is_an_option", "truth", "Whether sending nothing may win.", "true", default="true"),
        Field("look_ahead", "truth", "Whether a date known to come, such as a birthday, may be waited for, instead of "
              "letting another campaign hold the slot over it.", "true", default="true"),
        Field("explore", "object", "The share of decisions that try something else, to learn.",
              "{ start: 5%, floor: 1% }", kind="explore"),
        Field("unsubscribe_costs", "money", "What an unsubscription loses, beyond the campaigns that could have come.",
              "5.00", default="0"),
        Field("half_life", "duration", "After which time a result counts half.", "180d", default="180d",
              low="7d", high="1100d"),
        Field("collect_for", "duration", "How long a moment that has opened waits for rivals before one is chosen.",
              "0s", default="0s", high="1d"),
        Field("cold_start", "choice", "How one is chosen before there is evidence.", "priority",
              options=("priority",)),
    )),
    Kind("methods", "Two ways to choose, each for a share of the customers, drawn once for each of them.", (
        Field("compare", "object", "Who is chosen for by which.", "{ priority: 20%, expected_value: 80% }",
              required=True, kind="compared"),
    )),
    Kind("compared", "The share of customers for each way to choose; together all of them.", (
        Field("priority", "percentage", "By the highest priority.", "20%", required=True, low="1%", high="99%"),
        Field("expected_value", "percentage", "By what is expected to earn most.", "80%", required=True, low="1%",
              high="99%"),
    )),
    Kind("follow_ons", "What comes after.", (
        Field("depth", "count", "How many campaigns ahead.", "3", required=True, low="0", high="10"),
        Field("discount", "multiple", "What each step counts, against the one before.", "0.9", required=True,
              high="1"),
    )),
    Kind("explore", "How often to try something else.", (
        Field("start", "percentage", "The share at first.", "5%", required=True),
        Field("floor", "percentage", "The least it may shrink to.", "1%", required=True),
    )),
    Kind("holdout", "Customers nobody writes to, to know what all of it is worth.", (
        Field("share", "percentage", "How many.", "5%", required=True, high="50%"),
        Field("rotate", "choice", "When others take their turn.", "quarterly", default="quarterly",
              options=("monthly", "quarterly", "yearly", "never")),
    )),
    Kind("contact", "When and how often anybody may be written to.", (
        Field("consent", "choice", "Nobody is written to who has not agreed.", "required", default="required",
              options=("required",)),
        Field("caps", "object", "At most so many messages in a time.", "[{ max: 1, per: 24h }]", kind="cap",
              many=True),
        Field("quiet_hours", "object", "The hours in which nobody is written to.",
              '{ from: "21:00", to: "09:00", clock: customer }', kind="quiet_hours"),
        Field("no_time_zone", "object", "Which clock counts when the customer's is not known.",
              '{ use: country_default, else: "America/New_York" }', kind="no_time_zone"),
        Field("unknown", "choice", "What to do when a rule cannot be checked.", "do_not_send",
              default="do_not_send", options=("do_not_send",)),
    )),
    Kind("cap", "At most so many messages in a time.", (
        Field("max", "count", "How many.", "3", required=True, low="1", high="1000"),
        Field("per", "duration", "In which time.", "7d", required=True, low="1m", high="365d"),
        Field("channel", "name", "On this channel only.", "sms"),
    )),
    Kind("quiet_hours", "The hours in which nobody is written to; they may span midnight.", (
        Field("from", "time", "When they begin.", '"21:00"', required=True),
        Field("to", "time", "When they end.", '"09:00"', required=True),
        Field("clock", "choice", "Whose clock.", "customer", default="customer", options=("customer",)),
    )),
    Kind("no_time_zone", "Which clock counts when the customer's is not known.", (
        Field("use", "choice", "First the zone of the customer's country.", "country_default",
              options=("country_default",)),
        Field("else", "zone", "Then this one.", '"America/New_York"', required=True),
    )),
    Kind("time", "How long to wait for what arrives late, and how old is too old.", (
        Field("disorder", "durations", "Per topic: how long a timer waits for stragglers.", "{ clickstream: 30s }",
              high="1h"),
        Field("accept_late", "durations", "Per topic: how late an event may come and still correct.",
              "{ purchases: 6h }", high="7d"),
        Field("never_act_on_moments_older_than", "duration", "Moments that opened longer ago are never acted on.",
              "24h", default="24h", low="1m", high="30d"),
    )),
)  # fmt: skip

ALL_KINDS = (*_FEATURES, *_SEGMENTS, *_MOMENTS, *_CAMPAIGNS, *_POLICY)

KINDS: Mapping[str, Kind] = {kind.name: kind for kind in ALL_KINDS}

FAMILIES: Mapping[str, tuple[Kind, ...]] = {
    family: tuple(kind for kind in ALL_KINDS if kind.name.startswith(family + "/"))
    for family in dict.fromkeys(kind.name.partition("/")[0] for kind in ALL_KINDS if kind.head)
}

SECTIONS: Mapping[str, str] = {
    "features": "Facts kept per customer, by name.",
    "segments": "Named groups of customers, by name.",
    "moments": "When something is worth reacting to: a list.",
    "campaigns": "What we may do about it: a list.",
    "policy": "The rules of the whole program, if they share a file with something else.",
    **{kind: KINDS[kind].description for kind in (
        "program", "one_at_a_time", "choose", "holdout", "contact", "time",
    )},
}  # fmt: skip
"""What may stand at the top of a file."""

POLICY_SECTIONS = ("program", "one_at_a_time", "choose", "holdout", "contact", "time")

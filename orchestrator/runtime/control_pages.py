"""The pages of the control role: health, metrics, the audit's counts and a customer's decisions."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import faust
from faust.web import Request, Response, View
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from orchestrator.runtime.clock import now_ms
from orchestrator.runtime.control_book import Book
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.learner import Learned
from orchestrator.runtime.metric import Described, Values, registry_with
from orchestrator.runtime.settings import Secret
from orchestrator.why import explain

Records = list[dict[str, Any]]
Fetch = Callable[[str, int, list[int]], Records]
"""Returns a customer's decisions that are at these offsets of a partition; it may block."""


class Scrape(NamedTuple):
    """What a scrape of the control role reads from."""

    book: Book
    ready: bool
    learned: Learned
    now: int


def _by(read: Callable[[Book], Mapping[str, int]]) -> Callable[[Scrape], Values]:
    return lambda scrape: [((key,), count) for key, count in read(scrape.book).items()]


def _policy_age(scrape: Scrape) -> Values:
    learned = scrape.learned
    if learned.is_active and learned.is_asked and learned.as_of:
        yield (), max(0, scrape.now - learned.as_of) / 1000


METRICS: tuple[Described[Scrape], ...] = (
    Described("journey_control_decisions", "counter", ("reason",), "Decisions read, by reason.",
              _by(lambda book: book.reasons)),
    Described("journey_control_triggers", "counter", ("campaign",), "Triggers read, by campaign.",
              _by(lambda book: book.campaigns)),
    # Gauges: they are restored at a start and leave with their partitions.
    Described("journey_control_violations", "gauge", ("kind",), "Broken promises, by kind; whatever is not 0 is wrong.",
              _by(lambda book: book.violations())),
    Described("journey_control_unusable_records", "gauge", ("reason",),
              "Decisions and triggers that could not be read, by reason.", _by(lambda book: book.unusables())),
    Described("journey_control_redelivered", "counter", (), "Records that had been read before; they change nothing.",
              lambda scrape: [((), scrape.book.redelivered)]),
    Described("journey_control_ready", "gauge", (), "1 while its table is restored and can be asked.",
              lambda scrape: [((), scrape.ready)]),
    # The learner: what is not there, such as the age of a snapshot before the first, is not told.
    Described("journey_learner_active", "gauge", (), "1 while this instance learns for the group.",
              lambda scrape: [((), scrape.learned.is_active)]),
    Described("journey_learner_outcomes", "counter", (), "Outcome records read, tombstones included.",
              lambda scrape: [((), scrape.learned.outcomes)]),
    Described("journey_learner_snapshots", "counter", (), "Policy snapshots published.",
              lambda scrape: [((), scrape.learned.snapshots)]),
    Described("journey_learner_late_snapshots", "counter", (),
              "Snapshots that were undone and made again, for they would have counted before they were there.",
              lambda scrape: [((), scrape.learned.late)]),
    Described("journey_learner_failures", "counter", (), "Failures, after each of which the learner begins anew.",
              lambda scrape: [((), scrape.learned.failures)]),
    Described("journey_learner_planning_seconds", "gauge", (), "How long the last planning took.",
              lambda scrape: [((), scrape.learned.planning_seconds)]),
    Described("journey_policy_age_seconds", "gauge", (),
              "How long ago the outcomes were counted that the newest snapshot is made of.", _policy_age),
)  # fmt: skip
"""Every metric of the control role."""


class BookCollector(Collector):
    """Turns the book into metrics, at the time of the scrape."""

    def __init__(self, book: Book, learned: Learned, ready: Callable[[], bool]) -> None:
        self._book = book
        self._learned = learned
        self._ready = ready

    def collect(self) -> Iterator[Metric]:
        """Yield every metric of the control role."""
        scrape = Scrape(self._book, self._ready(), self._learned, now_ms())
        for metric in METRICS:
            yield metric.family(scrape)


def add_pages(
    app: faust.App, book: Book, learned: Learned, ready: Callable[[], bool], token: Secret | None, fetch: Fetch
) -> None:
    """Add the pages; `ready` says whether the table is restored."""
    registry = registry_with(BookCollector(book, learned, ready))

    @app.page("/healthz")
    async def healthz(view: View, _: Request) -> Response:
        return view.json({"alive": True})

    @app.page("/readyz")
    async def readyz(view: View, _: Request) -> Response:
        return view.json({"ready": ready(), "partitions": len(book.owned)}, status=200 if ready() else 503)

    @app.page("/metrics")
    async def metrics(view: View, _: Request) -> Response:
        return view.bytes(generate_latest(registry), content_type=CONTENT_TYPE_LATEST.split(";")[0])

    @app.page("/audit")
    async def audit(view: View, _: Request) -> Response:
        return view.json(book.report()) if ready() else _not_ready(view)

    @app.page("/customers/{customer}/decisions")
    async def decisions(view: View, request: Request, customer: str) -> Response:
        refused = _refused(view, request, token)
        if refused is not None:
            return refused
        if not ready():
            return _not_ready(view)
        partition = book.partition_of(customer)
        if partition not in book.owned:
            return _says(view, 404, f"not here: ask the instance that owns partition {partition}")
        try:
            records = await asyncio.to_thread(fetch, customer, partition, book.recent(customer))
        except OperatorError as error:
            return _says(view, 503, error.message)
        told = explain(customer, records, looked_at=f"the newest decisions of partition {partition}")
        return view.json(told.as_dict())


def _refused(view: View, request: Request, token: Secret | None) -> Response | None:
    if token is None:
        return _says(view, 404, "this page shows customers' data: set ORCHESTRATOR_WEB_TOKEN to enable it")
    given = request.headers.get("Authorization", "")
    if hmac.compare_digest(given.encode(), f"Bearer {token.reveal()}".encode()):
        return None
    text = "send the header Authorization: Bearer with the token of ORCHESTRATOR_WEB_TOKEN"
    return _says(view, 401, text, {"WWW-Authenticate": "Bearer"})


def _not_ready(view: View) -> Response:
    return _says(view, 503, "the table is being restored: ask again when /readyz says ready")


def _says(view: View, status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    return view.text(f"{text}\n", status=status, headers=headers)

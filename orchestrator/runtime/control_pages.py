"""The pages of the control role: health, metrics, the audit's counts and a customer's decisions."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Iterator
from typing import Any

import faust
from faust.web import Request, Response, View
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from orchestrator.runtime.control_book import Book
from orchestrator.runtime.errors import OperatorError
from orchestrator.runtime.settings import Secret
from orchestrator.why import explain

Records = list[dict[str, Any]]
Fetch = Callable[[str, int, list[int]], Records]
"""Returns a customer's decisions that are at these offsets of a partition; it may block."""


class BookCollector(Collector):
    """Turns the book into metrics, at the time of the scrape."""

    def __init__(self, book: Book, ready: Callable[[], bool]) -> None:
        self._book = book
        self._ready = ready

    def collect(self) -> Iterator[Metric]:
        """Yield every metric of the control role."""
        book = self._book
        decisions = CounterMetricFamily("journey_control_decisions", "Decisions read, by reason.", labels=["reason"])
        for reason, count in book.reasons.items():
            decisions.add_metric([reason], count)
        triggers = CounterMetricFamily("journey_control_triggers", "Triggers read, by campaign.", labels=["campaign"])
        for campaign, count in book.campaigns.items():
            triggers.add_metric([campaign], count)
        # Gauges: they are restored at a start and leave with their partitions.
        violations = GaugeMetricFamily("journey_control_violations", "Broken promises, by kind.", labels=["kind"])
        for kind, count in book.violations().items():
            violations.add_metric([kind], count)
        unusable = GaugeMetricFamily(
            "journey_control_unusable_records", "Records that could not be used, by reason.", labels=["reason"]
        )
        for reason, count in book.unusables().items():
            unusable.add_metric([reason], count)
        yield from (decisions, triggers, violations, unusable)
        yield CounterMetricFamily(
            "journey_control_redelivered", "Records that had been read before.", value=book.redelivered
        )
        yield GaugeMetricFamily("journey_control_ready", "Whether the tables are restored.", value=self._ready())


def add_pages(app: faust.App, book: Book, ready: Callable[[], bool], token: Secret | None, fetch: Fetch) -> None:
    """Add the pages; `ready` says whether the table is restored."""
    registry = CollectorRegistry()
    registry.register(BookCollector(book, ready))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)

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

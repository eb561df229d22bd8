"""The Faust app of the control role, and what Faust 0.15 leaves out: committed records only, commits of work done."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import faust
from faust.app.base import BootStrategy
from faust.auth import Credentials, OAuthCredentials
from faust.transport.drivers import aiokafka as driver
from mode import ServiceT

from orchestrator.runtime.embedded_broker import free_ports
from orchestrator.runtime.errors import USAGE, OperatorError
from orchestrator.runtime.oauth import ClientCredentials
from orchestrator.runtime.settings import Settings
from orchestrator.runtime.topic import Topic, Topics


class _CommittedThread(driver.AIOKafkaConsumerThread):
    """Reads committed records only; Faust would do so only with its own exactly-once, which loses and doubles."""

    def _create_worker_consumer(self, transport: driver.Transport) -> Any:
        consumer = super()._create_worker_consumer(transport)
        if not hasattr(consumer, "_isolation_level"):
            raise OperatorError("this version of aiokafka keeps its isolation level elsewhere: install the locked one")
        consumer._isolation_level = "read_committed"  # handed to the fetcher when the consumer starts
        return consumer


class CommittingConsumer(driver.Consumer):
    """Commits what its agents said they are done with, and nothing else.

    Faust commits what was acknowledged: also records that an agent was cancelled in, or that were dropped in a
    rebalance. And it counts offsets one by one, so that markers of transactions can keep it from committing for good.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._done: dict[tuple[str, int], int] = {}

    def done(self, tp: tuple[str, int], offset: int) -> None:
        """Let this record and all before it be committed."""
        self._done[tp] = offset + 1

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """Commit nothing more of these partitions; another instance may be further."""
        for tp in revoked:
            self._done.pop(tp, None)
        await super().on_partitions_revoked(revoked)

    def _new_consumer_thread(self) -> driver.AIOKafkaConsumerThread:
        return _CommittedThread(self, loop=self.loop, beacon=self.beacon)

    def _new_offset(self, tp: Any) -> int | None:
        for kept in (self._acked, self._acked_index, self._gap):
            kept[tp].clear()
        return self._done.get(tp)

    async def create_topic(self, *_: Any, **__: Any) -> None:
        """Create nothing: topics are declared, and those that are Faust's own were made before it started."""


class _Producer(driver.Producer):
    async def create_topic(self, *_: Any, **__: Any) -> None:
        """Create nothing, as the consumer does."""


class _Transport(driver.Transport):
    Consumer = CommittingConsumer
    Producer = _Producer


class _App(faust.App):
    def _new_transport(self) -> driver.Transport:
        return _Transport(self.conf.broker_consumer, self)

    def _new_producer_transport(self) -> driver.Transport:
        return _Transport(self.conf.broker_producer, self)


def app_id(settings: Settings) -> str:
    """Return the consumer group of the control role, apart from the engine's so that neither disturbs the other."""
    return f"{settings.group}-control"


def datadir(settings: Settings) -> Path:
    """Return the directory that Faust asks for, and in which it keeps nothing of worth here."""
    return settings.state_dir / "faust-control"


def changelog_of(settings: Settings, topics: Topics) -> Topic:
    """Return the topic from which the table is restored; what was decided is not in it longer than in `decisions`."""
    config = {"cleanup.policy": "compact"}
    retention = topics.decisions.config.get("retention.ms")
    if retention is not None:
        config = {"cleanup.policy": "compact,delete", "retention.ms": retention}
    return Topic(
        name=f"{settings.topic_prefix}{app_id(settings)}-customers-changelog",
        role="changelog",
        key="customer_id",
        partitions=topics.partitions,
        replication_factor=topics.decisions.replication_factor,
        partitioner=topics.decisions.partitioner,
        co_partitioned=True,
        schema=None,
        config=config,
    )


def new_app(settings: Settings, services: Sequence[ServiceT] = ()) -> faust.App:
    """Return the app, reaching the brokers as the settings say, without agents or pages; services run beside it."""
    session = settings.session_timeout_ms / 1000

    class WithServices(BootStrategy):
        """Starts everything of Faust's, then the services: last to start, first to stop."""

        def server(self) -> Iterable[ServiceT]:
            return [*super().server(), *services]

    class App(_App):
        BootStrategy = WithServices

    return App(
        app_id(settings),
        broker=[f"kafka://{server}" for server in settings.bootstrap_servers.split(",")],
        broker_credentials=credentials(settings),
        broker_client_id=f"{settings.instance}-control",
        broker_session_timeout=session,
        broker_heartbeat_interval=session / 4,
        broker_request_timeout=max(40.0, session),
        broker_commit_interval=1.0,
        consumer_auto_offset_reset="earliest",
        producer_acks=-1,
        store="memory://",
        datadir=str(datadir(settings)),
        topic_disable_leader=True,  # nothing here runs on a leader, and the leader's topic would be one more to create
        web_host=settings.web_host,
        web_bind=settings.web_host,
        web_port=settings.web_port or free_ports(1)[0],  # Faust refuses to be told 0
        web_tables_enabled=False,  # shows every customer to anybody
        web_router_enabled=False,
    )


def credentials(settings: Settings) -> Credentials | None:
    """Return how to log in to the brokers, as Faust wants it said, or raise an OperatorError."""
    protocol = settings.security_protocol
    context = _tls(settings) if protocol in ("ssl", "sasl_ssl") else None
    if protocol.startswith("sasl_"):
        user, secret = settings.sasl_username or "", settings.sasl_password.reveal() if settings.sasl_password else ""
        if settings.sasl_mechanism == "OAUTHBEARER":
            trusted = context or ssl.create_default_context()
            tokens = ClientCredentials(settings.sasl_token_url or "", user, secret, trusted)
            return OAuthCredentials(oauth_cb=tokens, ssl_context=context)
        return faust.SASLCredentials(
            username=user, password=secret, mechanism=settings.sasl_mechanism, ssl_context=context
        )
    return None if context is None else faust.SSLCredentials(context)


def _tls(settings: Settings) -> ssl.SSLContext:
    doing = "ORCHESTRATOR_SSL_CA"
    try:
        context = ssl.create_default_context(cafile=None if settings.ssl_ca is None else str(settings.ssl_ca))
        if settings.ssl_cert is not None and settings.ssl_key is not None:
            doing = "ORCHESTRATOR_SSL_CERT with ORCHESTRATOR_SSL_KEY"
            # Without a password of its own OpenSSL would ask for one at the terminal.
            context.load_cert_chain(str(settings.ssl_cert), str(settings.ssl_key), password=_no_password)
    except (OSError, ValueError) as error:
        raise OperatorError(f"{doing} cannot be used: {error}", exit_code=USAGE) from None
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted; give one without a password")

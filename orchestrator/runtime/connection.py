"""How brokers are reached, the same for consumer, producer and admin; and what to do when they are not."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Collection
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclOperation

from orchestrator.runtime.errors import USAGE, OperatorError
from orchestrator.runtime.settings import Settings

_ASKING = 1.0  # seconds for one attempt: errors show only between attempts
_FINAL = ("SSL handshake failed", "certificate")  # trying again cannot help

# Without a logger of its own librdkafka writes to stderr, where one line for the operator is what is wanted.
# Without a handler Python would do the same with warnings.
_log = logging.getLogger("orchestrator.kafka")
_log.addHandler(logging.NullHandler())


def client_config(settings: Settings) -> dict[str, Any]:
    """Return what every confluent-kafka client needs to reach the brokers of these settings."""
    if not settings.bootstrap_servers:
        raise OperatorError(
            "no broker is named: set ORCHESTRATOR_BOOTSTRAP_SERVERS, such as localhost:9092", exit_code=USAGE
        )
    config: dict[str, Any] = {
        "bootstrap.servers": settings.bootstrap_servers,
        "client.id": settings.instance,
        "security.protocol": settings.security_protocol,
    }
    if settings.security_protocol.startswith("sasl_"):
        config["sasl.mechanism"] = settings.sasl_mechanism
        user, password = "sasl.username", "sasl.password"
        if settings.sasl_mechanism == "OAUTHBEARER":
            config["sasl.oauthbearer.method"] = "oidc"
            config["sasl.oauthbearer.token.endpoint.url"] = settings.sasl_token_url or ""
            user, password = "sasl.oauthbearer.client.id", "sasl.oauthbearer.client.secret"
            if settings.ssl_ca is not None:
                config["https.ca.location"] = str(settings.ssl_ca)
        config[user] = settings.sasl_username or ""
        config[password] = settings.sasl_password.reveal() if settings.sasl_password else ""
    for name, path in (
        ("ssl.ca.location", settings.ssl_ca),
        ("ssl.certificate.location", settings.ssl_cert),
        ("ssl.key.location", settings.ssl_key),
    ):
        if path is not None:
            config[name] = str(path)
    return config


def connect(settings: Settings, timeout: float = 8.0) -> AdminClient:
    """Return an admin client whose broker has answered; in the seconds given, or an OperatorError says what to do."""
    errors: list[KafkaError] = []
    config = {**client_config(settings), "error_cb": errors.append}
    try:
        admin = AdminClient(config, logger=_log)
    except KafkaException as error:
        raise OperatorError(f"the connection settings are refused: {_reason(error.args[0])}", exit_code=USAGE) from None
    deadline = time.monotonic() + timeout
    while (left := deadline - time.monotonic()) > 0:
        try:
            admin.list_topics(timeout=min(_ASKING, left))
        except KafkaException:
            admin.poll(0.2)  # hands the reasons to error_cb, and paces attempts that fail at once
        else:
            return admin
        if any(_is_final(error) for error in errors):
            break
    raise OperatorError(_what_to_do(settings, errors))


def denied(settings: Settings, operation: AclOperation, names: Collection[str]) -> list[str]:
    """Return those of some topics on which this user may not do something, as far as the broker tells."""
    try:
        admin = connect(settings)  # named, for a client that nobody holds ends and answers nothing
        asked = admin.describe_topics(TopicCollection(list(names)), include_authorized_operations=True)
        found = {name: answer.result(5.0) for name, answer in asked.items()}
    except (KafkaException, OperatorError, TimeoutError):
        return []
    return sorted(name for name, one in found.items() if operation not in (one.authorized_operations or ()))


def explain(error: KafkaError, doing: str, settings_hint: str = "") -> str:
    """Return one line for an answer of the broker: what was being done, why it failed and what to do."""
    code = error.code()
    if code in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED):
        need = "Create, Describe, DescribeConfigs and AlterConfigs on the topics"
        return f"{doing}: this user may not do it; have {need} granted"
    if code == KafkaError.INVALID_REPLICATION_FACTOR:
        return f"{doing}: there are not enough brokers; start more or set ORCHESTRATOR_REPLICATION"
    if code in (KafkaError._TIMED_OUT, KafkaError.REQUEST_TIMED_OUT, KafkaError._TRANSPORT):
        return f"{doing}: the broker did not answer in time; see whether it is healthy and run this again"
    return f"{doing}: {_reason(error)}{settings_hint}"


def _is_final(error: KafkaError) -> bool:
    return error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL) or any(word in error.str() for word in _FINAL)


def _what_to_do(settings: Settings, errors: list[KafkaError]) -> str:
    servers, protocol = settings.bootstrap_servers, settings.security_protocol
    telling = [error for error in errors if error.code() != KafkaError._ALL_BROKERS_DOWN]
    # What cannot be helped by trying again tells more than an address among several that was not reached.
    error = next(filter(_is_final, telling), telling[-1] if telling else None)
    if error is None:
        return (
            f"nothing at {servers} answers like a Kafka broker that speaks {protocol}: "
            "check the address and ORCHESTRATOR_SECURITY_PROTOCOL"
        )
    reason = _reason(error)
    if error.code() == KafkaError._AUTHENTICATION:
        if settings.sasl_mechanism == "OAUTHBEARER":
            return (
                f"{servers} refused client '{settings.sasl_username}' ({reason}): check ORCHESTRATOR_SASL_TOKEN_URL, "
                "ORCHESTRATOR_SASL_USERNAME (the client id) and ORCHESTRATOR_SASL_PASSWORD (its secret)"
            )
        return (
            f"{servers} refused user '{settings.sasl_username}' ({reason}): check ORCHESTRATOR_SASL_USERNAME, "
            f"ORCHESTRATOR_SASL_PASSWORD and ORCHESTRATOR_SASL_MECHANISM (now {settings.sasl_mechanism})"
        )
    if "alert" in reason and "certificate" in reason:
        return (
            f"{servers} refused our certificate ({reason}): check ORCHESTRATOR_SSL_CERT and ORCHESTRATOR_SSL_KEY, "
            "which must be of an authority that the brokers trust"
        )
    if _is_final(error):
        return (
            f"no TLS with {servers} ({reason}): "
            f"check ORCHESTRATOR_SECURITY_PROTOCOL (now {protocol}) and ORCHESTRATOR_SSL_CA"
        )
    return f"no broker at {servers} ({reason}): start it, or set ORCHESTRATOR_BOOTSTRAP_SERVERS to one that runs"


def _reason(error: KafkaError) -> str:
    """Return librdkafka's words without its own addresses and timings, on one line."""
    text = re.sub(r"\s*\(after \d+ms in state \w+\)", "", " ".join(error.str().split()))
    return re.sub(r"^(\w+://)?[^\s/]+/(bootstrap|\d+): ", "", text)

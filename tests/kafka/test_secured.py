"""A worker against Apache Kafka that asks who it is: right answers work, wrong ones end in a line that helps."""

from __future__ import annotations

import base64
import json
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # the package does not list what it exports
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from orchestrator.runtime.embedded_broker import free_ports
from tests.deploy.workers import Worker
from tests.kafka.broker import KafkaBroker, Member
from tests.kafka.certificates import Authority
from tests.runtime.messages import CLICKSTREAM, PROFILES, item_added, profile
from tests.runtime.streams import Stream
from tests.runtime.worker_process import EngineProcess

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

SECRET = "s3cret-of-the-worker"
CUSTOMER = "ana"
_MODULE = "org.apache.kafka.common.security"


class _Tokens(BaseHTTPRequestHandler):
    """An issuer of unsecured tokens, to whoever knows the secret."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        user, _, secret = base64.b64decode(self.headers["Authorization"].split()[1]).decode().partition(":")
        if secret != SECRET:
            self.send_response(401)
            self.end_headers()
            return
        now = int(time.time())
        parts = ({"alg": "none"}, {"sub": user, "iat": now, "exp": now + 3_600, "scope": "x"})
        token = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
        body = json.dumps({"access_token": f"{token}.", "token_type": "Bearer", "expires_in": 3_600}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the server's signature
        """Say nothing."""


@dataclass
class Secured:
    """A broker with an open door for tests, one with TLS and passwords or tokens, and one with TLS both ways."""

    broker: KafkaBroker
    folder: Path
    authority: Authority
    sasl: str
    mutual: str
    tokens: str

    def with_sasl(self, mechanism: str, *, user: str = "worker", secret: str = SECRET) -> dict[str, str]:
        """Return the settings of a user who has a password or gets a token, without ORCHESTRATOR_."""
        file = self.folder / f"secret-{abs(hash(secret))}"
        file.write_text(secret)
        given = {
            "BOOTSTRAP_SERVERS": self.sasl,
            "SECURITY_PROTOCOL": "sasl_ssl",
            "SASL_MECHANISM": mechanism,
            "SASL_USERNAME": user,
            "SASL_PASSWORD_FILE": str(file),
            "SSL_CA": str(self.authority.certificate),
        }
        return given | ({"SASL_TOKEN_URL": self.tokens} if mechanism == "OAUTHBEARER" else {})

    def with_certificate(self, authority: Authority | None) -> dict[str, str]:
        """Return the settings of a worker with a certificate of an authority, or with none."""
        given = {
            "BOOTSTRAP_SERVERS": self.mutual,
            "SECURITY_PROTOCOL": "ssl",
            "SSL_CA": str(self.authority.certificate),
        }
        if authority is None:
            return given
        certificate, key = authority.issue("worker")
        return given | {"SSL_CERT": str(certificate), "SSL_KEY": str(key)}

    def forbid(self, user: str, operation: AclOperation, topic: str) -> None:
        """Let a user do everything but this."""
        admin = AdminClient({"bootstrap.servers": self.broker.bootstrap})
        kinds = (ResourceType.TOPIC, ResourceType.GROUP, ResourceType.TRANSACTIONAL_ID)
        literal, everything = ResourcePatternType.LITERAL, AclOperation.ALL
        who = f"User:{user}"
        rules = [AclBinding(one, "*", literal, who, "*", everything, AclPermissionType.ALLOW) for one in kinds]
        rules.append(AclBinding(ResourceType.TOPIC, topic, literal, who, "*", operation, AclPermissionType.DENY))
        for answer in admin.create_acls(rules).values():
            answer.result(10)


@pytest.fixture(scope="module")
def secured(kafka: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """Start a broker and an issuer of tokens."""
    assert kafka.pid, "the shared broker is there only to skip or fail by name where Kafka cannot be had"
    folder = tmp_path_factory.mktemp("secured")
    authority = Authority(folder)
    *own, sasl, mutual = free_ports(4)
    member = Member(1, *own)
    users = " ".join(f'user_{name}="{SECRET}"' for name in ("worker", "noread", "nowrite"))
    listeners = f"PLAINTEXT://127.0.0.1:{member.port},SASL://127.0.0.1:{sasl},MUTUAL://127.0.0.1:{mutual}"
    properties = {
        "listeners": f"{listeners},CONTROLLER://127.0.0.1:{member.controller_port}",
        "advertised.listeners": listeners,
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_SSL,MUTUAL:SSL",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(authority.keystore("broker")),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority.certificate),
        "listener.name.mutual.ssl.client.auth": "required",
        "listener.name.mutual.ssl.principal.mapping.rules": "RULE:^CN=([^,]+).*$/$1/",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512,OAUTHBEARER",
        "listener.name.sasl.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512,OAUTHBEARER",
        "listener.name.sasl.plain.sasl.jaas.config": f"{_MODULE}.plain.PlainLoginModule required {users};",
        "listener.name.sasl.scram-sha-512.sasl.jaas.config": f"{_MODULE}.scram.ScramLoginModule required;",
        "listener.name.sasl.oauthbearer.sasl.jaas.config": (
            f'{_MODULE}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";'
        ),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS;User:worker",
    }
    issuer = ThreadingHTTPServer(("127.0.0.1", 0), _Tokens)
    threading.Thread(target=issuer.serve_forever, daemon=True).start()
    with KafkaBroker(properties=properties, member=member) as broker:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        scram = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4_096)
        for answer in admin.alter_user_scram_credentials(
            [UserScramCredentialUpsertion("worker", scram, SECRET.encode())]
        ).values():
            answer.result(10)
        tokens = f"http://127.0.0.1:{issuer.server_port}/token"
        yield Secured(broker, folder, authority, f"127.0.0.1:{sasl}", f"127.0.0.1:{mutual}", tokens)
    issuer.shutdown()
    issuer.server_close()


@pytest.fixture
def stream(secured: Secured, tmp_path: Path) -> Stream:
    """Return a stream in which a customer left a cart two hours ago."""
    stream = Stream(secured.broker.bootstrap, tmp_path)
    stream.send(PROFILES, CUSTOMER.encode(), profile(customer=CUSTOMER))
    stream.send(CLICKSTREAM, CUSTOMER.encode(), item_added("12:00", CUSTOMER))
    stream.advance("12:30")
    stream.advance("14:00")
    return stream


def worker(stream: Stream, settings: Mapping[str, str]) -> EngineProcess:
    """Start a worker over the stream with other settings of the connection."""
    return EngineProcess(stream.environment | {f"ORCHESTRATOR_{name}": text for name, text in settings.items()})


@pytest.mark.parametrize("how", ["PLAIN", "SCRAM-SHA-512", "OAUTHBEARER", "certificate"])
def test_the_right_credentials_work(secured: Secured, stream: Stream, how: str) -> None:
    """It reads, decides and commits; its secret is on no command line and in no log."""
    certificate = how == "certificate"
    given = secured.with_certificate(secured.authority) if certificate else secured.with_sasl(how)

    with worker(stream, given) as process:
        process.wait_for(lambda: len(stream.decisions) == 1, 60)
        line = Path(f"/proc/{process._process.pid}/cmdline").read_bytes().decode()
        process.terminate()
        assert process.ended() == 0

    assert SECRET not in line + process.said


def test_the_control_role_logs_in_with_a_token(secured: Secured, stream: Stream, tmp_path: Path) -> None:
    """Through another client, Faust's: it is ready, which it is only once it has read with that login."""
    (port,) = free_ports(1)
    given = secured.with_sasl("OAUTHBEARER") | {"WEB_PORT": str(port)}
    environment = stream.environment | {f"ORCHESTRATOR_{name}": text for name, text in given.items()}
    with Worker("control", environment, tmp_path / "log") as process:
        process.until(lambda: is_ready(port), "the control role to be ready")

    assert SECRET not in process.log


def is_ready(port: int) -> bool:
    """Return whether a worker says that it is ready."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
            return True
    except OSError:
        return False


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_a_wrong_password_names_the_user_and_the_settings(secured: Secured, stream: Stream, mechanism: str) -> None:
    """In one line, and soon."""
    with worker(stream, secured.with_sasl(mechanism, secret="wr0ng-secret")) as process:
        code, line, _ = process.failure()

    assert code == 1
    assert "refused user 'worker'" in line
    assert "ORCHESTRATOR_SASL_PASSWORD" in line
    assert "wr0ng-secret" not in process.said


def test_a_wrong_client_secret_names_the_issuer(secured: Secured, stream: Stream) -> None:
    """No token, no login."""
    with worker(stream, secured.with_sasl("OAUTHBEARER", secret="wr0ng-secret")) as process:
        code, line, _ = process.failure()

    assert code == 1
    assert "ORCHESTRATOR_SASL_TOKEN_URL" in line
    assert "wr0ng-secret" not in process.said


def test_an_unknown_authority_is_told_from_a_wrong_password(secured: Secured, stream: Stream, tmp_path: Path) -> None:
    """The broker's certificate is not trusted: it is the trust that is to be mended."""
    other = Authority(tmp_path, "other")
    with worker(stream, secured.with_sasl("PLAIN") | {"SSL_CA": str(other.certificate)}) as process:
        code, line, _ = process.failure()

    assert code == 1
    assert "no TLS with" in line
    assert "ORCHESTRATOR_SSL_CA" in line


@pytest.mark.parametrize("brings", ["nothing", "a stranger's certificate"])
def test_without_the_right_certificate_the_settings_are_named(
    secured: Secured, stream: Stream, tmp_path: Path, brings: str
) -> None:
    """A broker that asks for one says little; the line says what is to be set."""
    given = secured.with_certificate(None if brings == "nothing" else Authority(tmp_path, "stranger"))
    with worker(stream, given) as process:
        code, line, _ = process.failure()

    assert code == 1
    assert "ORCHESTRATOR_SSL_CERT" in line


def test_a_topic_that_may_not_be_read_is_named(secured: Secured, stream: Stream) -> None:
    """With the right that is missing."""
    topic = f"{stream.topics.prefix}purchases"
    secured.forbid("noread", AclOperation.READ, topic)
    with worker(stream, secured.with_sasl("PLAIN", user="noread")) as process:
        code, line, _ = process.failure(60)

    assert code == 1
    assert f"this user may not read {topic}" in line


def test_a_topic_that_may_not_be_written_is_named(secured: Secured, stream: Stream) -> None:
    """Nothing is committed, and starting again would not help."""
    topic = stream.topics.triggers.name
    secured.forbid("nowrite", AclOperation.WRITE, topic)
    with worker(stream, secured.with_sasl("PLAIN", user="nowrite")) as process:
        code, line, _ = process.failure(60)

    assert code == 1
    assert f"this user may not write {topic}" in line
    assert stream.decisions == []

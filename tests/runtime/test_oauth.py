"""The control role's tokens: asked of the issuer by id and secret, and refused in words that help."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import urllib.parse
from base64 import b64decode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from orchestrator.runtime.oauth import ClientCredentials

SECRET = "s3cret"


class Issuer(BaseHTTPRequestHandler):
    """Knows one client; at other paths it answers what is asked for."""

    def do_POST(self) -> None:
        form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        login = b64decode(self.headers["Authorization"].removeprefix("Basic ")).decode()
        known = login == f"control:{SECRET}" and form == {"grant_type": ["client_credentials"]}
        self.send_response(200 if known else 401)
        self.end_headers()
        answers = {"/token": json.dumps({"access_token": "abc"}).encode(), "/none": b"{}"}
        self.wfile.write(answers.get(self.path, b"<html>"))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the server's signature
        """Say nothing."""


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    """Return the address of an issuer that runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Issuer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def ask(url: str, secret: str = SECRET) -> str:
    """Return a token for the client `control`."""
    return asyncio.run(ClientCredentials(url, "control", secret, ssl.create_default_context()).token())


def test_the_right_secret_gets_a_token(issuer: str) -> None:
    """By the grant for clients."""
    assert ask(f"{issuer}/token") == "abc"


@pytest.mark.parametrize(
    ("path", "secret", "reason"),
    [("token", "wr0ng", "it answers 401"), ("none", SECRET, "has no access_token"), ("page", SECRET, "has no")],
)
def test_no_token_is_a_failed_connection_that_is_tried_again(issuer: str, path: str, secret: str, reason: str) -> None:
    """The line names the setting and no secret."""
    with pytest.raises(ConnectionError, match=reason) as caught:
        ask(f"{issuer}/{path}", secret)

    assert "ORCHESTRATOR_SASL_TOKEN_URL" in str(caught.value)
    assert secret not in str(caught.value)


def test_an_issuer_that_is_away_is_a_failed_connection() -> None:
    """As a broker would be."""
    with pytest.raises(ConnectionError, match="refused"):
        ask("http://127.0.0.1:9/token")

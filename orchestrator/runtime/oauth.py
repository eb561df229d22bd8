"""Tokens for Faust's Kafka client from an OIDC issuer, as librdkafka gets its own: by client id and secret."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from aiokafka.abc import AbstractTokenProvider

SECONDS = 10.0
"""How long the issuer may take."""


class ClientCredentials(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka has no types
    """Asks the issuer at every connection, so that no token is ever old."""

    def __init__(self, url: str, client: str, secret: str, context: ssl.SSLContext) -> None:
        login = base64.b64encode(f"{client}:{secret}".encode()).decode()
        self._request = Request(  # noqa: S310 (the settings take http and https only)
            url, data=b"grant_type=client_credentials", headers={"Authorization": f"Basic {login}"}
        )
        self._context = context

    async def token(self) -> str:
        """Return a token, or raise a ConnectionError, after which the client tries again."""
        return await asyncio.to_thread(self._ask)

    def _ask(self) -> str:
        try:
            with urlopen(self._request, timeout=SECONDS, context=self._context) as answer:  # noqa: S310 (as above)
                return str(json.load(answer)["access_token"])
        except HTTPError as error:
            reason = f"it answers {error.code}"
        except OSError as error:
            reason = str(error)
        except (ValueError, KeyError, TypeError):
            reason = "its answer has no access_token"
        raise ConnectionError(f"no token from ORCHESTRATOR_SASL_TOKEN_URL: {reason}")

"""A mail provider for the tests of the reference sender: notes every call in a file, and takes its time."""

import os
import random
import time
from pathlib import Path
from typing import Any

CALLS = "MAIL_PROVIDER_CALLS"
"""Names the file, to which several processes may append."""


def deliver(trigger: dict[str, Any], idempotency_key: str) -> None:  # noqa: ARG001 (a provider's signature)
    """Take a message; a kill may hit before the call, during it and after it."""
    with Path(os.environ[CALLS]).open("ab", buffering=0) as calls:
        calls.write(f"{idempotency_key}\n".encode())
    time.sleep(random.uniform(0, 0.02))

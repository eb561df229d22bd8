"""Durations and sizes as people write them: 14d, 200ms, 2MiB."""

from __future__ import annotations

import re

_MILLISECONDS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}

_DURATION = re.compile(r"([0-9]{1,15})(ms|s|m|h|d|w)")
_SIZE = re.compile(r"([0-9]{1,15})(B|KiB|MiB|GiB|TiB)?")


def duration_ms(text: str) -> int:
    """Return milliseconds for text such as `200ms`, `30s`, `5m`, `1h` or `14d`; ValueError says how to write it."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text}' is not a duration, write it like 200ms, 30s, 5m, 1h or 14d")
    return int(match[1]) * _MILLISECONDS[match[2]]


def size_bytes(text: str) -> int:
    """Return bytes for text such as `64KiB`, `2MiB` or `1048576`; ValueError says how to write it."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text}' is not a size, write it like 64KiB, 2MiB or 1048576")
    return int(match[1]) * _BYTES[match[2] or "B"]

"""The topic configurations Kafka knows, and how each may be written in `topics.yaml`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from orchestrator.definitions.nodes import did_you_mean
from orchestrator.runtime.units import duration_ms, size_bytes

_POLICIES = ("compact", "delete")
_NUMBER = re.compile(r"-?[0-9]{1,19}")


def _milliseconds(text: str) -> str:
    # The key ends in .ms, so a bare number is as clear as 14d, and -1 is Kafka's "for ever".
    return text if _NUMBER.fullmatch(text) else str(duration_ms(text))


def _bytes(text: str) -> str:
    return text if text == "-1" else str(size_bytes(text))


def _number(text: str) -> str:
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"'{text}' is not a whole number")
    return text


def _ratio(text: str) -> str:
    if not re.fullmatch(r"[01](\.[0-9]+)?", text):
        raise ValueError(f"'{text}' is not a ratio, write it like 0.5")
    return text


def _switch(text: str) -> str:
    if text not in ("true", "false"):
        raise ValueError(f"'{text}' is neither true nor false")
    return text


def _text(text: str) -> str:
    return text


def _one_of(*words: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text not in words:
            raise ValueError(f"'{text}' is not one of {', '.join(words)}{did_you_mean(text, words)}")
        return text

    return check


def cleanup_policy(text: str) -> str:
    """Return the policies in one order, `compact,delete`, as Kafka's answers are compared with it."""
    policies = [policy.strip() for policy in text.split(",")]
    for policy in policies:
        if policy not in _POLICIES:
            hint = did_you_mean(policy, _POLICIES) or ", use delete, compact or 'compact,delete'"
            raise ValueError(f"'{policy}' is not a cleanup policy{hint}")
    return ",".join(sorted(set(policies)))


KNOWN: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        "cleanup.policy": cleanup_policy,
        "compression.gzip.level": _number,
        "compression.lz4.level": _number,
        "compression.type": _one_of("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"),
        "compression.zstd.level": _number,
        "delete.retention.ms": _milliseconds,
        "file.delete.delay.ms": _milliseconds,
        "flush.messages": _number,
        "flush.ms": _milliseconds,
        "follower.replication.throttled.replicas": _text,
        "index.interval.bytes": _bytes,
        "leader.replication.throttled.replicas": _text,
        "local.retention.bytes": _number,
        "local.retention.ms": _milliseconds,
        "max.compaction.lag.ms": _milliseconds,
        "max.message.bytes": _bytes,
        "message.timestamp.after.max.ms": _milliseconds,
        "message.timestamp.before.max.ms": _milliseconds,
        "message.timestamp.type": _one_of("CreateTime", "LogAppendTime"),
        "min.cleanable.dirty.ratio": _ratio,
        "min.compaction.lag.ms": _milliseconds,
        "min.insync.replicas": _number,
        "preallocate": _switch,
        "remote.storage.enable": _switch,
        "retention.bytes": _bytes,
        "retention.ms": _milliseconds,
        "segment.bytes": _bytes,
        "segment.index.bytes": _bytes,
        "segment.jitter.ms": _milliseconds,
        "segment.ms": _milliseconds,
        "unclean.leader.election.enable": _switch,
    }
)


def normalise(name: str, text: str) -> str:
    """Return the value as Kafka stores it; ValueError says what is wrong with the name or the value."""
    if name in KNOWN:
        return KNOWN[name](text)
    # Vendors add keys of their own, always with their name in front.
    if name.startswith("confluent."):
        return text
    raise ValueError(f"unknown topic configuration '{name}'{did_you_mean(name, KNOWN)}")

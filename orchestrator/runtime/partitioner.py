"""Which partition a key belongs to, as JVM clients compute it."""

import ctypes
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

Partitioner = Callable[[bytes, int], int]

_MASK = 0xFFFFFFFF
_MULTIPLIER = 0x5BD1E995
_SEED = 0x9747B28C


def murmur2(key: bytes) -> int:
    """Return Kafka's murmur2 hash of *key* as a signed 32-bit integer."""
    length = len(key)
    whole = length & ~3
    result = _SEED ^ length
    for at in range(0, whole, 4):
        block = int.from_bytes(key[at : at + 4], "little") * _MULTIPLIER & _MASK
        block = (block ^ block >> 24) * _MULTIPLIER & _MASK
        result = result * _MULTIPLIER & _MASK ^ block
    if whole < length:
        result = (result ^ int.from_bytes(key[whole:], "little")) * _MULTIPLIER & _MASK
    result = (result ^ result >> 13) * _MULTIPLIER & _MASK
    result ^= result >> 15

    return result - (1 << 32) if result & 0x80000000 else result


def python_partition(key: bytes, partitions: int) -> int:
    """Return the partition of *key*, computed in Python."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def native_partitioner() -> Partitioner | None:
    """Return the same function as librdkafka's producers run it, or None where it cannot be reached."""
    library = _librdkafka()
    if library is None:
        return None
    try:
        function = ctypes.CDLL(str(library)).rd_kafka_msg_partitioner_murmur2
    except (OSError, AttributeError):
        return None
    pointer = ctypes.c_void_p
    function.argtypes = (pointer, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int32, pointer, pointer)
    function.restype = ctypes.c_int32

    def partition(key: bytes, partitions: int) -> int:
        return int(function(None, key, len(key), partitions, None, None))

    return partition


def _librdkafka() -> Path | None:
    """Return the library file inside the installed client, so that no other copy is loaded."""
    spec = find_spec("confluent_kafka")
    if spec is None or spec.origin is None:
        return None
    package = Path(spec.origin).parent
    for folder in (package.with_name("confluent_kafka.libs"), package / ".dylibs"):
        for library in sorted(folder.glob("librdkafka*")):
            return library

    return None


murmur2_partition: Partitioner = native_partitioner() or python_partition
"""Returns the partition of a key among so many partitions, as `murmur2_random` producers choose it."""

partition_of: Partitioner = lru_cache(maxsize=1 << 16)(murmur2_partition)
"""Returns the same, remembering the keys seen last."""

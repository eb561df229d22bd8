"""The partitioner agrees with the JVM's, or one customer would live in two places."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.runtime.partitioner import (
    murmur2,
    murmur2_partition,
    native_partitioner,
    partition_of,
    python_partition,
)

# From the tests of Apache Kafka's own org.apache.kafka.common.utils.Utils.
JVM_VECTORS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "expected"), JVM_VECTORS.items())
def test_hash_is_the_jvms(key: bytes, expected: int) -> None:
    """The hash equals what Java's client computes."""
    assert murmur2(key) == expected


@pytest.mark.parametrize("partitions", [1, 4, 48, 1000])
@pytest.mark.parametrize(("key", "hashed"), JVM_VECTORS.items())
def test_partition_is_the_jvms(key: bytes, hashed: int, partitions: int) -> None:
    """Every way to ask gives the partition a Java producer would use."""
    expected = (hashed & 0x7FFFFFFF) % partitions

    assert python_partition(key, partitions) == expected
    assert murmur2_partition(key, partitions) == expected
    assert partition_of(key, partitions) == expected


@given(key=st.binary(max_size=80), partitions=st.integers(min_value=1, max_value=10_000))
def test_python_and_librdkafka_agree(key: bytes, partitions: int) -> None:
    """Both implementations give the same partition for any key, zero bytes and the empty key included."""
    native = native_partitioner()
    if native is None:
        pytest.skip("this build of confluent-kafka does not carry librdkafka as a file")

    assert native(key, partitions) == python_partition(key, partitions)

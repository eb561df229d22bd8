"""Tests against Apache Kafka itself."""

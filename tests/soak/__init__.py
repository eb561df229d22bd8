"""Fault runs on three nodes of Apache Kafka: ``make soak MINUTES=20``."""

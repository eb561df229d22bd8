"""Real-time customer journeys on Kafka: one campaign per customer at a time, and anyone can ask why."""

__version__ = "0.1.0"

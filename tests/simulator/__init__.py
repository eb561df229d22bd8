"""A deterministic simulator of the broker side: the real loop and engine over a fake Kafka, from one seed."""

"""What would have been decided on recorded events: the worker's engine, every rule on, the same bytes on every run."""

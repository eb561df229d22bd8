"""A year of real purchases with seeded clickstream and messages around them, whose truth is known."""

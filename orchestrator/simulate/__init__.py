"""Worlds whose truth is known: what learning makes of them through the real engine, beside what would be best."""

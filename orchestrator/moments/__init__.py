"""Micro-moments: the few shapes one can have, and how events and time move an instance through its life."""

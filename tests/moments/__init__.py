"""Tests of what is worth reacting to."""

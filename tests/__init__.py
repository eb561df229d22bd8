"""The tests, which are also the specification."""

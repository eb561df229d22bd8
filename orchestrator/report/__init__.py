"""What was decided and what it was worth, as one HTML page and as tables: of a demo's year, or of a back-test."""

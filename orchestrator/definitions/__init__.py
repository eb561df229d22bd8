"""Text in, program out: what marketers write, checked and compiled; no I/O, callers read the files."""

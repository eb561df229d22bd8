"""What tests measured, shown at the end of a run: pytest keeps to itself what tests that pass have printed."""

from collections.abc import Iterable, Iterator

import pytest

MEASURED = "measured: "
"""What a printed line begins with that the summary repeats."""


def measured(reports: Iterable[object]) -> Iterator[str]:
    """Yield the lines that tests printed as measured, each once, in the order of the reports."""
    seen: set[str] = set()
    for report in reports:
        for name, text in report.sections if isinstance(report, pytest.TestReport) else ():
            for line in text.splitlines() if "stdout" in name else ():
                if line.startswith(MEASURED) and line not in seen:
                    seen.add(line)
                    yield line.removeprefix(MEASURED)

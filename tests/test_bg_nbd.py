"""BG/NBD on the CDNOW customers, to the digits that Fader, Hardie and Lee published (Marketing Science, 2005).

`predict: p_alive` rests on the model and, until a shop has its own, on these very parameters. The customers are a tenth
of those who first bought at CDNOW in early 1997: 39 weeks to fit, 39 to check. The package `lifetimes` brings them; it
is not maintained any more, and nothing of it but the file is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from orchestrator import rhythm

Numbers = npt.NDArray[np.float64]

FITTED_TO, CHECKED_TO = date(1997, 9, 30), date(1998, 6, 30)
CHECKED_WEEKS = 39


@dataclass(frozen=True, slots=True)
class Customers:
    """Repeat orders of each customer, the week of the last one and the weeks seen; and their orders afterwards."""

    repeats: Numbers
    last: Numbers
    seen: Numbers
    later: Numbers


def days_of_orders(file: Path) -> Iterator[list[date]]:
    """Yield the distinct days on which each customer ordered, in order."""
    days: dict[str, set[date]] = {}
    for line in file.read_text(encoding="ascii").splitlines():
        _, customer, day, *_ = line.split()
        days.setdefault(customer, set()).add(date.fromisoformat(day))
    yield from map(sorted, days.values())


@pytest.fixture(scope="module")
def customers() -> Customers:
    """Return the CDNOW customers, or skip where they are not installed."""
    package = find_spec("lifetimes")
    if package is None or not package.submodule_search_locations:
        pytest.skip("CDNOW is not here: pip install 'journey-orchestrator[dev]'")
    file = Path(package.submodule_search_locations[0]) / "datasets" / "CDNOW_sample.txt"
    rows = []
    for days in days_of_orders(file):
        fitted = [day for day in days if day <= FITTED_TO]
        later = sum(FITTED_TO < day <= CHECKED_TO for day in days)
        first = fitted[0]
        rows.append((len(fitted) - 1, (fitted[-1] - first).days / 7, (FITTED_TO - first).days / 7, later))
    return Customers(*np.array(rows, dtype=np.float64).T)


def log_likelihood(parameters: Numbers, customers: Customers) -> float:
    """Return the log-likelihood of (r, alpha, a, b)."""
    special = pytest.importorskip("scipy.special", reason="scipy is not here: pip install 'journey-orchestrator[dev]'")
    ln_gamma: Any = special.gammaln
    r, alpha, a, b = parameters
    x, last, seen = customers.repeats, customers.last, customers.seen
    buys = ln_gamma(r + x) - ln_gamma(r) + r * np.log(alpha)
    stays = ln_gamma(a + b) + ln_gamma(b + x) - ln_gamma(b) - ln_gamma(a + b + x)
    still_here = -(r + x) * np.log(alpha + seen)
    gone = np.where(x > 0, np.log(a) - np.log(b + np.maximum(x, 1) - 1) - (r + x) * np.log(alpha + last), -np.inf)
    return float((buys + stays + np.logaddexp(still_here, gone)).sum())


def expected_orders(parameters: Numbers, customers: Customers, weeks: float) -> Numbers:
    """Return how many orders each customer is expected to place in so many weeks to come."""
    special = pytest.importorskip("scipy.special", reason="scipy is not here: pip install 'journey-orchestrator[dev]'")
    r, alpha, a, b = parameters
    x, last, seen = customers.repeats, customers.last, customers.seen
    series = special.hyp2f1(r + x, b + x, a + b + x - 1, weeks / (alpha + seen + weeks))
    over_time = 1 - ((alpha + seen) / (alpha + seen + weeks)) ** (r + x) * series
    odds = np.where(x > 0, a / (b + np.maximum(x, 1) - 1) * ((alpha + seen) / (alpha + last)) ** (r + x), 0)
    found: Numbers = (a + b + x - 1) / (a - 1) * over_time / (1 + odds)
    return found


@pytest.fixture(scope="module")
def fitted(customers: Customers) -> Numbers:
    """Return the parameters of greatest likelihood; all are positive, so their logarithms are searched."""
    optimize = pytest.importorskip(
        "scipy.optimize", reason="scipy is not here: pip install 'journey-orchestrator[dev]'"
    )
    options = {"xatol": 1e-7, "fatol": 1e-9, "maxiter": 10_000, "maxfev": 10_000}
    found = optimize.minimize(
        lambda logs: -log_likelihood(np.exp(logs), customers), np.zeros(4), method="Nelder-Mead", options=options
    )
    assert found.success, found.message
    parameters: Numbers = np.exp(found.x)
    return parameters


def test_the_customers_are_those_of_the_paper(customers: Customers) -> None:
    """2,357 customers, of whom 1,411 did not order again in 39 weeks."""
    assert (len(customers.repeats), int((customers.repeats == 0).sum())) == (2_357, 1_411)


def test_parameters_and_likelihood_as_published(customers: Customers, fitted: Numbers) -> None:
    """R .2426, alpha 4.4136, a .7929, b 2.4259, and a log-likelihood of -9582.43."""
    assert [round(float(value), 4) for value in fitted] == [0.2426, 4.4136, 0.7929, 2.4259]
    assert round(log_likelihood(fitted, customers), 2) == -9582.43


def test_correlation_with_what_they_did_afterwards_as_published(customers: Customers, fitted: Numbers) -> None:
    """.626 between what is expected of each for 39 weeks and what they did."""
    expected = expected_orders(fitted, customers, CHECKED_WEEKS)

    assert round(float(np.corrcoef(expected, customers.later)[0, 1]), 3) == 0.626


def test_the_engine_uses_these_parameters(customers: Customers, fitted: Numbers) -> None:
    """To three digits, as the paper prints them in its table, and with the same probability for every customer."""
    shipped = (rhythm._R, rhythm._ALPHA, rhythm._A, rhythm._B)
    assert [round(float(value), 3) for value in fitted] == list(shipped)

    week = 7 * 86_400
    r, alpha, a, b = shipped
    rows = zip(customers.repeats, customers.last, customers.seen, strict=True)
    for x, last, seen in {(float(x), float(last), float(seen)) for x, last, seen in rows}:
        state = [int(x) + 1, 0, round(last * week)]
        odds = a / (b + x - 1) * ((alpha + seen) / (alpha + last)) ** (r + x) if x else 0.0
        assert rhythm.p_alive(state, round(seen * week) * 1000) == pytest.approx(1 / (1 + odds), abs=0.0006)

"""Times of which some are still open: shares and quantiles that the open ones do not pull down."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.learning.survival import product_limit, quantile, spread_by_class, surviving


def test_a_table_by_hand() -> None:
    """The example of textbooks: 6 and 6+ and 7+ and 10: an open case counts as long as it is seen."""
    times = np.array([10.0, 6.0, 7.0, 6.0])
    observed = np.array([True, True, False, False])

    instants, share = product_limit(times, observed)

    assert instants.tolist() == [6.0, 10.0]
    assert share.tolist() == [0.75, 0.0]


def test_open_cases_do_not_bias_it() -> None:
    """Of exponential times cut off at random, half last longer than the median; of those observed far fewer do."""
    chance = np.random.default_rng(7)
    times, cut = chance.exponential(10, 20_000), chance.uniform(0, 30, 20_000)
    observed = times <= cut
    seen = np.minimum(times, cut)
    median = 10 * np.log(2)

    assert surviving(seen, observed, median) == pytest.approx(0.5, abs=0.015)
    assert quantile(seen, observed, 0.9) == pytest.approx(10 * np.log(10), rel=0.05)
    assert (seen[observed] > median).mean() < 0.4


def test_up_to_a_time_and_beyond_it() -> None:
    """What ends at the very instant lasts up to it, not beyond."""
    times, observed = np.array([1.0, 2.0]), np.array([True, True])

    assert surviving(times, observed, 1.0, including=True) == 1.0
    assert surviving(times, observed, 1.0) == 0.5
    assert surviving(times, observed, 0.5) == 1.0


def test_a_class_without_an_observed_gap_has_no_spread() -> None:
    """It is left to the table that is shipped."""
    residuals, gaps = np.array([-0.5, 0.0, 0.5, 1.0]), np.array([1, 1, 1, 2])
    observed = np.array([True, True, True, False])

    assert spread_by_class(residuals, observed, gaps) == {"low_1": -500_000, "high_1": 500_000}

"""Times of which some are still open: what share lasts longer, by the product-limit estimate of Kaplan and Meier."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from orchestrator.rhythm import GAP_CLASSES

TENTH = 0.1

Numbers = npt.NDArray[np.float64]
Marks = npt.NDArray[np.bool_]


def product_limit(times: Numbers, observed: Marks) -> tuple[Numbers, Numbers]:
    """Return the distinct times at which something was observed, in order, and the share that lasts beyond each."""
    order = np.argsort(times, kind="stable")
    times, observed = times[order], observed[order]
    at, begin = np.unique(times, return_index=True)
    events = np.add.reduceat(observed.astype(np.int64), begin)
    at_risk = len(times) - begin
    share = np.cumprod((1.0 - events / at_risk).astype(np.float64), dtype=np.float64)
    return at[events > 0], share[events > 0]


def surviving(times: Numbers, observed: Marks, at: float, *, including: bool = False) -> float:
    """Return the share that lasts beyond a time, or up to it at least."""
    instants, share = product_limit(times, observed)
    place = int(np.searchsorted(instants, at, side="left" if including else "right"))
    return 1.0 if place == 0 else float(share[place - 1])


def quantile(times: Numbers, observed: Marks, share: float) -> float:
    """Return the least time by which a share is over; the last observed where that share never is."""
    instants, left = product_limit(times, observed)
    place = int(np.searchsorted(-left, -(1 - share), side="left"))
    return float(instants[min(place, len(instants) - 1)])


def spread_by_class(residuals: Numbers, observed: Marks, gaps: npt.NDArray[np.int64]) -> Mapping[str, int]:
    """Return where the tenths of log(gap / expected) begin, in millionths, for every class of own gaps that has any."""
    found: dict[str, int] = {}
    for least, most in zip(GAP_CLASSES, (*GAP_CLASSES[1:], np.inf), strict=True):
        alike = (gaps >= least) & (gaps < most)
        if not observed[alike].any():
            continue
        for name, share in (("low", TENTH), ("high", 1 - TENTH)):
            found[f"{name}_{least}"] = round(quantile(residuals[alike], observed[alike], share) * 1_000_000)
    return found

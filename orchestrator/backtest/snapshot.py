"""Snapshots over all customers of a history: where the bands of quantiles begin, and how far next orders spread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from orchestrator.backtest.history import History
from orchestrator.backtest.pool import Partition, Pool, Progress
from orchestrator.backtest.rhythms import gaps_of, predictions_of, spread_of_gaps
from orchestrator.features import Feature
from orchestrator.program import Definitions
from orchestrator.reference import Snapshot
from orchestrator.view import CustomerView

Amounts = Mapping[str, Counter[int]]
"""For each quantile, how many customers there are with each amount of the feature that it goes by."""


def snapshots(history: History, definitions: Definitions, *, processes: int, progress: Progress) -> list[Snapshot]:
    """Return where the bands of each quantile begin and the spread of each prediction, effective from its end on.

    A quantile of which no customer has an amount is left out, and a prediction without a single gap.
    """
    quantiles, predictions = quantiles_of(definitions), predictions_of(definitions)
    with Pool(history, [definitions], processes) as pool:
        steps = history.steps(pool.read(progress))
        parts = pool.decide(_amounts, steps, progress) if quantiles else []
        gaps = pool.decide(gaps_of, steps, progress) if predictions else []
    end, found = max((one.until for one in steps.values()), default=0), []
    for quantile in quantiles:
        amounts = sum((part[quantile.name] for part in parts), Counter[int]())
        if amounts:
            least, of = least_values(quantile, amounts), quantile.of or ""
            found.append(Snapshot(quantile.name, end, least, of, amounts.total(), definitions.version))
    for prediction in predictions:
        known = [gap for part in gaps for gap in part[prediction.name]]
        if any(gap.over for gap in known):
            least = spread_of_gaps(known)
            found.append(Snapshot(prediction.name, end, least, "", len(known), definitions.version))
    return found


def quantiles_of(definitions: Definitions) -> list[Feature]:
    """Return the features whose bands begin where a snapshot says, in order of their names."""
    return [feature for _, feature in sorted(definitions.features.items()) if feature.kind == "quantile"]


def least_values(quantile: Feature, amounts: Counter[int]) -> dict[str, int]:
    """Return the least amount of each band but the lowest: at least its share of the customers is below.

    Customers with equal amounts are in one band. So there may be fewer in a high band than its share, never more, and
    nobody where too many have the highest amount.
    """
    least = {}
    *upper, _ = zip(quantile.bands, quantile.shares, strict=True)
    for (band, _), share in upper:
        below, begins = 0, max(amounts) + 1
        for amount in sorted(amounts):
            if below * 1_000 >= share * amounts.total():
                begins = amount
                break
            below += amounts[amount]
        least[band] = begins
    return least


def _amounts(partition: Partition) -> Amounts:
    """Return how many of a partition's customers have which amounts at the end."""
    (program,), reference, end = partition.programs, partition.job.reference, partition.steps.until
    quantiles = quantiles_of(program.definitions)
    found: dict[str, Counter[int]] = {quantile.name: Counter() for quantile in quantiles}
    for _, _, (life,) in partition.lives():
        if life.customer is None:
            continue
        view = CustomerView(program, reference, life.customer, end)
        for quantile in quantiles:
            amount = view.feature(quantile.of or "")
            if amount is not None:
                found[quantile.name][amount] += 1
    return found

"""What a simulation tells people: shares of the segment oracle, bars with a verdict, and one drawing."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner

from orchestrator.cli.simulate import simulate
from orchestrator.simulate.oracles import SEGMENT
from orchestrator.simulate.page import Results, drawing, tables
from orchestrator.simulate.run import HINDSIGHT, MANUAL, OURS, Result

SEEDS = (1, 2)


def results(ours: float, customers: int = 8_000, covered: tuple[int, int] = (95, 100)) -> Results:
    """Return results of a year in which the oracle earns 1.00 a day, and ours so much of it."""
    earns = {SEGMENT: 1.0, HINDSIGHT: 0.6, MANUAL: 0.1, OURS: ours}
    return Results(
        Result(policy, seed, customers, (share * 100.0,) * 360, 0.0, {}, covered if policy == OURS else (0, 0))
        for policy, share in earns.items()
        for seed in SEEDS
    )


def test_scores_are_shares_of_the_segment_oracle() -> None:
    """By year and by quarter, for each seed."""
    found = results(0.8)

    assert found.year(OURS) == pytest.approx({1: 0.8, 2: 0.8})
    assert found.quarter(OURS, 3) == pytest.approx({1: 0.8, 2: 0.8})
    assert found.ahead(OURS, 3, HINDSIGHT) == pytest.approx({1: 0.2 * 90, 2: 0.2 * 90})
    assert f"| {OURS} | 8,000 x 2 | 288.00 | 80.0% | 80.0% (seed 1) | 72.00 · 72.00 · 72.00 · 72.00 |" in tables(found)


@pytest.mark.parametrize(
    ("ours", "missed"),
    [(0.9, set()), (0.72, {"last quarter"}), (0.5, {"year one, of the segment oracle", "worst seed of year one"})],
)
def test_bars_that_are_missed_say_so(ours: float, missed: set[str]) -> None:
    """With the figure that was found."""
    gates = {gate.what: gate for gate in results(ours).gates()}

    assert missed <= {what for what, gate in gates.items() if not gate.reached}
    assert ("MISSED" in tables(results(ours))) is bool(missed)
    assert f"{ours:.1%}" in gates["year one, of the segment oracle"].found


def test_intervals_that_miss_the_truth_are_a_missed_bar() -> None:
    """Counted over all seeds."""
    [gate] = [gate for gate in results(0.9, covered=(90, 100)).gates() if "intervals" in gate.what]

    assert not gate.reached
    assert gate.found == "90.0% of 200 intervals"


def test_the_drawing_has_a_curve_for_each_policy() -> None:
    """Well-formed, each with its name and what it earned."""
    root = ET.fromstring(drawing(results(0.8)))

    space = "{http://www.w3.org/2000/svg}"
    texts = " ".join(text.text or "" for text in root.iter(f"{space}text"))
    for name, value in ((SEGMENT, 360), (OURS, 288), (HINDSIGHT, 216), (MANUAL, 36)):
        assert f"{name}  {value}" in texts


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--world", "mars"], "unknown world 'mars', there are: shop"),
        (["--only", "nobody"], "unknown policy 'nobody', there are: "),
        (["--seeds", "1-x"], "seeds are '1-x', write whole numbers such as 1-8 or 101,104"),
    ],
)
def test_mistakes_are_told(arguments: list[str], said: str) -> None:
    """With what there is."""
    found = CliRunner().invoke(simulate, arguments)

    assert found.exit_code == 2
    assert said in found.output


def test_a_simulation_writes_its_results(tmp_path: Path) -> None:
    """A year of sixty people by the manual list: figures, tables and drawing."""
    found = CliRunner().invoke(
        simulate, ["--customers", "60", "--seeds", "1", "--only", MANUAL, "--processes", "1", "--out", str(tmp_path)]
    )

    assert found.exit_code == 0, found.output
    [result] = json.loads((tmp_path / "simulation.json").read_text())
    assert (result["policy"], result["customers"], len(result["daily"])) == (MANUAL, 60, 365)
    assert MANUAL in (tmp_path / "simulation.md").read_text()
    assert "<svg" in (tmp_path / "simulation.svg").read_text()

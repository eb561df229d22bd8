"""The packs that the scaling curves grow, and the plot they end in."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench.curves import CURVES, definitions, plot, point
from bench.harness.seed import program_of


@pytest.mark.parametrize(("touched", "idle"), [(1, 0), (3, 0), (1, 4)])
def test_a_pack_has_as_many_moments_as_are_asked_for(tmp_path: Path, touched: int, idle: int) -> None:
    """An item in a cart concerns those, and no others; none of them are the same."""
    program = program_of(definitions(tmp_path, touched, idle))

    assert len(program.moments) == touched + idle
    assert len(program.dispatch("cart.item_added").roles) == touched


def test_a_point_says_what_an_event_costs() -> None:
    """Decided for real, by few customers."""
    found = point("partitions", 2, 20)

    assert found["events"] > 100
    assert found["cost"] > 0


def test_the_plot_has_a_panel_for_each_curve() -> None:
    """Well-formed, with a dot and its figure for every point."""
    root = ET.fromstring(plot({name: [(0, 30.0), (20, 60.0), (100, 900.5)] for name in CURVES}))

    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert len(list(root.iter("{http://www.w3.org/2000/svg}circle"))) == 3 * len(CURVES)
    assert {curve.title for curve in CURVES.values()} <= set(texts)

"""Imports point upstream, and up to the simulation nothing meets the outside world or reads a clock."""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import orchestrator

PACKAGE = Path(orchestrator.__file__).parent

LAYERS = (
    ("events",),
    ("reference", "onlookers", "identity", "conditions", "reasons", "records", "rhythm", "valuation"),
    ("arbitration.policy", "arbitration.campaign", "moments.rules"),
    ("features", "program", "programs", "quotas", "sharing", "migrations", "customer", "civil"),
    ("view", "step", "facts", "moments", "arbitration", "measurement", "contact", "needs"),
    ("engine", "recall", "adoption", "backfill"),
    ("simulation", "prospects"),
    ("learning",),
    ("definitions",),
    ("runtime",),
    ("report",),
    ("backtest", "simulate"),
    ("demo",),
    ("cli", "starter", "__main__"),
)
"""What a module may import: its own layer and those before it. A package stands for all modules in it."""

PURE = LAYERS.index(("simulation", "prospects"))
"""The last layer without I/O, clock and chance."""

APART = {"audit": frozenset[str](), "why": frozenset({"reasons"}), "__init__": frozenset[str]()}
"""Modules that know nothing of the rest, and what they may import of it; anybody may import them."""

ALLOWED = frozenset(
    {
        "__future__", "collections", "dataclasses", "datetime", "enum", "functools", "hashlib", "itertools", "math",
        "operator", "struct", "typing",
        "bisect",    # versions of a product are found by their instants
        "heapq",     # the simulation finds who is due without asking everybody
        "msgspec",   # values that encode to stable bytes ten times faster than the standard library; it does no I/O
        "zoneinfo",  # customers live in time zones; it reads the zone database, which is a constant
    }
)  # fmt: skip
"""Modules from outside that a pure one may import."""

CLOCKS = frozenset({"now", "today", "utcnow", "time", "time_ns", "monotonic", "perf_counter"})
"""Calls that read a clock; `datetime.time` is never built by us."""


@dataclass(frozen=True, slots=True)
class Module:
    """One module of a tree: what it imports of the package and from outside, and where it reads a clock."""

    name: str
    imports: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    clock_calls: tuple[str, ...] = ()


def read_tree(root: Path, package: str = "orchestrator") -> list[Module]:
    """Return every module below a package's folder."""
    return [_read(path, root, package) for path in sorted(root.rglob("*.py"))]


def _read(path: Path, root: Path, package: str) -> Module:
    name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
    inside, outside, clocks = [], [], []
    for node in ast.walk(ast.parse(path.read_text())):
        for target in _imported(node):
            first, _, rest = target.partition(".")
            if first == package:
                inside.append("__init__" if rest.startswith("__") else rest)
            else:
                outside.append(first or "relatively")
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in CLOCKS:
                clocks.append(f"{called} on line {node.lineno}")
    return Module(name, tuple(inside), tuple(outside), tuple(clocks))


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        # `from a import b` may import the module a.b; so the name is taken along, and looked up by its beginning.
        yield from (f"{node.module}.{alias.name}" if node.level == 0 else "." for alias in node.names)


def beginning(name: str, names: Collection[str]) -> str | None:
    """Return the longest beginning of a dotted name that is among names."""
    parts = name.split(".")
    beginnings = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((one for one in beginnings if one in names), None)


PLACES = {name: number for number, names in enumerate(LAYERS) for name in names}


def layer_of(module: str) -> int | None:
    """Return the layer a module belongs to, None when no layer has it."""
    place = beginning(module, PLACES)
    return None if place is None else PLACES[place]


def violations(modules: list[Module]) -> list[str]:
    """Return every broken rule, as one sentence each."""
    return [said for module in modules for said in _violations_of(module)]


def _violations_of(module: Module) -> Iterator[str]:
    if module.name in APART:
        for other in module.imports:
            if beginning(other, APART[module.name]) is None:
                yield f"{module.name} imports {other}, it stands apart"
        for other in module.outside:
            if other not in sys.stdlib_module_names:
                yield f"{module.name} imports {other}, it stands apart"
        return
    own = layer_of(module.name)
    if own is None:
        yield f"{module.name} is in no layer"
        return
    for other in module.imports:
        theirs = layer_of(other)
        if beginning(other, APART) is None and (theirs is None or theirs > own):
            yield f"{module.name} imports {other}, which comes after it"
    if own <= PURE:
        yield from (f"{module.name} imports {other}, it is pure" for other in module.outside if other not in ALLOWED)
        yield from (f"{module.name} calls {call}: time is an argument" for call in module.clock_calls)


def cycles(modules: list[Module]) -> list[str]:
    """Return the modules that import themselves through others."""
    names = {module.name for module in modules}
    known = {module.name: {beginning(other, names) for other in module.imports} for module in modules}
    found = []
    for name in known:
        reached: set[str] = set()
        ahead = set(known[name])
        while ahead:
            one = ahead.pop()
            if one is not None and one not in reached:
                reached.add(one)
                ahead |= known[one]
        if name in reached:
            found.append(name)
    return found


def test_imports_point_upstream() -> None:
    """A module imports only from its own layer and those before it, and a pure one nothing that is not."""
    assert violations(read_tree(PACKAGE)) == []


def test_the_pure_modules_have_no_import_cycle() -> None:
    """Any of them can be understood with those before it."""
    pure = [module for module in read_tree(PACKAGE) if (layer_of(module.name) or 0) <= PURE]

    assert cycles(pure) == []


def test_every_layer_names_something() -> None:
    """A layer whose module is gone guards nothing; the command line's entry may come and go."""
    there = {module.name for module in read_tree(PACKAGE)}

    assert [name for names in LAYERS for name in names if name not in there] == []
    assert [name for name in APART if name not in there] == []


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        (
            "moments/wake.py",
            "from orchestrator.engine import advance",
            "moments.wake imports engine.advance, which comes after",
        ),
        ("events.py", "import orchestrator.customer", "events imports customer, which comes after it"),
        ("moments/wake.py", "from orchestrator import engine", "moments.wake imports engine, which comes after it"),
        ("moments/wake.py", "from .detect import ended", "moments.wake imports relatively, it is pure"),
        ("engine.py", "import time", "engine imports time, it is pure"),
        ("engine.py", "def f(d):\n    return d.now()", "engine calls now on line 2: time is an argument"),
        ("civil.py", "from datetime import date\nx = date.today()", "civil calls today on line 2: time is an argument"),
        ("simulation.py", "def f():\n    import random", "simulation imports random, it is pure"),
        ("definitions/load.py", "from orchestrator.runtime.topics import T", "definitions.load imports runtime.topics"),
        ("audit.py", "from orchestrator.reasons import Reason", "audit imports reasons.Reason, it stands apart"),
        ("why.py", "from orchestrator.records import Decision", "why imports records.Decision, it stands apart"),
        ("audit.py", "import fastavro", "audit imports fastavro, it stands apart"),
        ("helpers.py", "", "helpers is in no layer"),
    ],
)
def test_a_planted_violation_is_caught(tmp_path: Path, path: str, text: str, said: str) -> None:
    """The rules above can fail, each of them."""
    planted = tmp_path / path
    planted.parent.mkdir(exist_ok=True)
    planted.write_text(text + "\n")

    [found] = violations(read_tree(tmp_path))
    assert found.startswith(said)


def test_what_is_allowed_is_not_reported(tmp_path: Path) -> None:
    """Upstream imports, clocks at the edge and modules apart are fine."""
    for path, text in (
        (
            "engine.py",
            "from orchestrator.moments.wake import wake\nfrom orchestrator.events import Event\nimport msgspec",
        ),
        ("why.py", "import json\nfrom orchestrator.reasons import Reason"),
        (
            "cli.py",
            "import time\nfrom orchestrator import audit, why\nfrom orchestrator.engine import advance\ntime.time()",
        ),
    ):
        (tmp_path / path).write_text(text + "\n")

    assert violations(read_tree(tmp_path)) == []


def test_a_planted_cycle_is_caught(tmp_path: Path) -> None:
    """Two modules of one layer that import each other are found."""
    (tmp_path / "features.py").write_text("import orchestrator.customer\n")
    (tmp_path / "customer.py").write_text("from orchestrator.features import Feature\n")

    assert cycles(read_tree(tmp_path)) == ["customer", "features"]

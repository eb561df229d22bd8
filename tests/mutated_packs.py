"""Definitions as nobody should write them: `python -m tests.mutated_packs [--packs N] [--seed S] [--write]`.

The shipped packs are changed in their text, in their structure and in their conditions, or blown up (aliases, depth,
length, numbers), and read as `orchestrator lint` and `orchestrator test` read them. Each must end in a list of problems
or in a program, never in a traceback, within a bounded time; nothing of it may be executed: an audit hook watches for
code that is compiled, imported or run, files that are written, processes and sockets. Some that load are run on events.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from orchestrator.definitions.codes import CODES
from orchestrator.definitions.fields import KINDS, SECTIONS
from orchestrator.definitions.footprint import footprint
from orchestrator.definitions.load import TESTS, load
from orchestrator.definitions.nodes import Problem, Problems
from orchestrator.definitions.scenario_run import run_scenario
from orchestrator.definitions.scenarios import parse_scenarios
from orchestrator.runtime.definitions_folder import read_directory

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "docs" / "proofs" / "mutated-packs.md"
PACKS = [ROOT / "deploy" / "definitions" / name for name in ("retail", "retail_plus")]
RUN_EVERY = 10
"""Of the packs that load, so many pass until the tests of one are run."""

Pack = dict[str, str]

FIELDS = sorted({known.name for kind in KINDS.values() for known in kind.fields} | set(SECTIONS))
OPTIONS = sorted({option for kind in KINDS.values() for known in kind.fields for option in known.options})
PIECES = (
    "{", "}", "[", "]", ":", ": ", ",", "- ", "'", '"', "\n", "\n\n", "  ", "\t", "#", "&a ", "*a",
    "!!python/name:os.x ",
    "!x ", "|", ">", "%", "@", "`", "?", "? ", "---\n", "...\n", "<<: ", "null", "~", "yes", "on", "\u00a0", "\u2028",
    "\x00", "\ufeff", "é", "💥", "0", "-1", "9" * 30, "1e999", ".inf", ".nan", "0x7f", "1_000", "30d", "0d", "99999w",
)  # fmt: skip
VALUES = (
    "", " ", "0", "1", "-1", "2.5", "3", "99999", "9" * 400, "30d", "0m", "1m", "99999w", "-6d", "15%", "100%", "0%",
    "21:00", "24:00", "1970-01-01", "2000-02-30", "Europe/Madrid", "../../etc/passwd", "window", "true", "no",
    "order.placed", "cart.item_added", "order.placed.total", "product.viewed", "cart_id", "sku", "category",
    "profile.birth_date", "order_gap", "lapsed", "birthday_week", "__import__('os').system('x')",
    "{{ 7 * 7 }}", "x" * 999,
)  # fmt: skip
WORDS = (
    "and", "or", "not", "in", "is", "unknown", "(", ")", "[", "]", "==", "!=", "<", "<=", ">", ">=", "=", "30d", "2w",
    "0", "3", "-1", "2.5", "9" * 40, "'high'", "'", "true", "false", "age(", "in_segment('heroes')",
    "in_segment('newcomers')", "bought_within(category, 90d)", "orders_lifetime", "cart_value", "order_gap", "tenure",
    "lifecycle", "value_tier", "p_alive", "profile.city", "profile.attributes['x']", "product.stock", "moment.cart_id",
    "event.total", "__class__", "lambda: 0", "message_engaged_at", ".", ",", "\n", "💥",
)  # fmt: skip
CONDITIONS = ("only_if", "is", "where", "recheck_before_send")


@dataclass
class Findings:
    """What came of all packs."""

    kinds: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    packs: int = 0
    programs: int = 0
    refused: int = 0
    run: int = 0
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0
    slowest_kind: str = ""


class Mutator:
    """Makes packs that differ from those we ship; what it does depends on its seed alone."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.packs = [read_directory(path) for path in PACKS]
        self.texts = [text for pack in self.packs for text in pack.values()]
        self.kinds: tuple[tuple[str, int, Callable[[Pack], None]], ...] = (
            ("text", 40, self._text),
            ("structure", 35, self._structure),
            ("condition", 20, self._condition),
            ("blown up", 5, self._blow_up),
        )

    def next(self) -> tuple[str, Pack]:
        """Return a pack and what was done to it."""
        pack = dict(self.chance.choice(self.packs))
        kind, _, change = self.chance.choices(self.kinds, weights=[weight for _, weight, _ in self.kinds])[0]
        for _ in range(self.chance.choice((1, 1, 1, 2, 3, 8))):
            change(pack)
        return kind, pack

    def _path(self, pack: Pack) -> str:
        return self.chance.choice(sorted(pack))

    # --- text ---

    def _text(self, pack: Pack) -> None:
        path, chance = self._path(pack), self.chance
        text = pack[path]
        at, lines = chance.randrange(len(text) + 1), text.splitlines(keepends=True) or [""]
        line = chance.randrange(len(lines))
        change = chance.randrange(9)
        if change == 0:
            text = text[:at] + text[at + chance.randint(1, 12) :]
        elif change == 1:
            text = text[:at] + chance.choice(PIECES) + text[at:]
        elif change == 2:
            text = text[:at] + chance.choice(PIECES) + text[at + chance.randint(1, 4) :]
        elif change == 3:
            lines.insert(line, chance.choice(lines))
            text = "".join(lines)
        elif change == 4:
            del lines[line]
            text = "".join(lines)
        elif change == 5:
            lines[line] = " " * chance.randrange(9) + lines[line].lstrip(" ")
            text = "".join(lines)
        elif change == 6:
            word = chance.choice(list(re.finditer(r"[\w.%:-]+|$", text)))
            text = text[: word.start()] + chance.choice((*VALUES, *FIELDS, *OPTIONS)) + text[word.end() :]
        elif change == 7:
            other = chance.choice(self.texts)
            begin = chance.randrange(len(other))
            text = text[:at] + other[begin : begin + chance.randrange(200)] + text[at:]
        else:
            text = text[:at]
        pack[path] = text

    # --- structure ---

    def _structure(self, pack: Pack) -> None:
        path = self._path(pack)
        try:
            root = yaml.load(pack[path], Loader=yaml.CBaseLoader)  # every scalar stays text, and nothing is built
        except yaml.YAMLError:
            return self._text(pack)
        places = list(_places(root))
        if not places:
            return self._text(pack)
        chance = self.chance
        holder, key = chance.choice(places)
        change = chance.randrange(7)
        if change == 0:
            del holder[key]
        elif change == 1:
            holder[key] = chance.choice(VALUES)
        elif change == 2:
            other, name = chance.choice(places)
            holder[key] = _copied(other[name]) if name in _keys(other) else ""
        elif change == 3 and isinstance(holder, dict):
            holder[chance.choice(FIELDS)] = holder.pop(key)
        elif change == 4:
            holder[key] = [holder[key]] if chance.random() < 0.5 else {chance.choice(FIELDS): holder[key]}
        elif change == 5 and isinstance(holder, list):
            holder.append(_copied(holder[key]))
        elif isinstance(holder, dict):
            holder[chance.choice(FIELDS)] = chance.choice((*VALUES, *OPTIONS))
        pack[path] = yaml.dump(root, Dumper=yaml.CSafeDumper, allow_unicode=True, width=10_000)
        return None

    # --- conditions ---

    def _condition(self, pack: Pack) -> None:
        chance = self.chance
        found = [
            (path, match)
            for path, text in pack.items()
            for match in re.finditer(rf"({'|'.join(CONDITIONS)}): \"([^\"\n]*)\"", text)
        ]
        if not found:
            return
        path, match = chance.choice(found)
        words = re.findall(r"'[^']*'|[\w.]+|[^\w\s]+", match[2])
        for _ in range(chance.choice((1, 1, 2, 5, 40))):
            at = chance.randrange(len(words) + 1)
            words[at : at + chance.randrange(3)] = [chance.choice(WORDS)]
        written = " ".join(words).replace('"', "'").replace("\n", "\\n")
        text = pack[path]
        pack[path] = f'{text[: match.start()]}{match[1]}: "{written}"{text[match.end() :]}'

    # --- too much of everything ---

    def _blow_up(self, pack: Pack) -> None:
        path, chance = self._path(pack), self.chance
        many = chance.choice((50, 1_000, 30_000))
        kind = chance.randrange(14)
        text = pack[path]
        if kind == 0:  # each alias stands for ten of the one before
            text += "".join(f"\nx{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10) if n else 'lol'}]" for n in range(12))
        elif kind == 1:
            text += "\nfeatures: " + "[" * many + "]" * chance.choice((0, many))
        elif kind == 2:
            text += "\nfeatures: " + "{a: " * many + "}" * chance.choice((0, many))
        elif kind == 3:
            text += "\n" + "- " * many + "x"
        elif kind == 4:
            text += "\n" + "? " * many + "x"
        elif kind == 5:
            text = "features:\n" + "".join(
                f"  f{n}: {{ count: order.placed, over: {n + 1}d }}\n" for n in range(many // 20)
            )
        elif kind == 6:
            text += f"\n{'k' * many}: {'9' * many}"
        elif kind == 7:
            text += '\nsegments: { a_long_one: { say: Long, is: "' + chance.choice(WORDS) + " and x " * many + '" } }'
        elif kind == 8:
            opening = chance.choice(("(", "not ", "age(", "x[", "not not (", "x in ["))
            text += f'\nsegments: {{ a_deep_one: {{ say: Deep, is: "{opening * min(many, 600)}" }} }}'
        elif kind == 9:  # each segment asks for the one before thirty times
            text = "segments:\n  s0: { say: S, is: \"profile.city == 'x'\" }\n" + "".join(
                f'  s{n}: {{ say: S, is: "{" and ".join([f"in_segment({q}s{n - 1}{q})"] * 30)}" }}\n'
                for n in range(1, 9)
                for q in ("'",)
            )
        elif kind == 10:  # alternatives that multiply
            parts = " and ".join(f"(profile.city == 'a{n}' or profile.country == 'b{n}')" for n in range(30))
            text += f'\nsegments: {{ many_ways: {{ say: Many, is: "{parts}" }} }}'
        elif kind == 11:
            text += "\n" + "\n".join(f"a{n}: &a{n} x" for n in range(many))
        elif kind == 12:
            text = "!!python/object/apply:os.system ['false']\n" if chance.random() < 0.5 else text * (many // 20)
        else:
            text = re.sub(r"\d+", lambda _: "9" * chance.choice((1, 5, 9, 40)), text)
        pack[path] = text


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every place of a tree as what holds it and its key there."""
    for key in _keys(node):
        yield node, key
        yield from _places(node[key])


def _keys(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return list(node)
    return list(range(len(node))) if isinstance(node, list) else []


def _copied(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _copied(value) for key, value in node.items()}
    return [_copied(item) for item in node] if isinstance(node, list) else node


# --- what must hold ---------------------------------------------------------------------------------------------------

FORBIDDEN = ("exec", "compile", "import", "os.", "subprocess.", "socket.", "ctypes.", "pty.", "shutil.", "pickle.")
ALLOWED = ("os.scandir", "os.listdir", "os.walk")
ZONES = ("tzdata", "zoneinfo")
"""Where zones are looked up: `ZoneInfo` reads them from a package of data where the system has none."""

_armed: list[str] | None = None


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _armed is None:
        return
    writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    of_zones = event in ("exec", "import", "compile") and any(name in str(arguments) for name in ZONES)
    if (event.startswith(FORBIDDEN) and event not in ALLOWED and not of_zones) or writes:
        _armed.append(f"{event} {str(arguments)[:200]}")


sys.addaudithook(_watch)


@contextmanager
def watched() -> Iterator[list[str]]:
    """Yield the list of everything that is executed meanwhile and should not be."""
    global _armed  # a hook cannot be taken away again, only told to look elsewhere
    seen: list[str] = []
    _armed = seen
    try:
        yield seen
    finally:
        _armed = None


def read_pack(pack: Pack, *, run: bool) -> tuple[list[Problem], bool, bool]:
    """Read a pack as the commands do; return its problems, whether it is a program, and whether its tests ran."""
    definitions, problems = load(pack)
    if definitions is None:
        return problems, False, False
    footprint(definitions)
    found = Problems()
    scenarios = [
        one
        for path, text in pack.items()
        if path.endswith(TESTS)
        for one in parse_scenarios(text, path, definitions, found)
    ]
    if run:
        for scenario in scenarios[:10]:
            run_scenario(scenario, definitions)
    return [*problems, *found.sorted()], True, run


def check(problems: list[Problem], pack: Pack, *, program: bool) -> str:
    """Return what is wrong with an answer, or nothing."""
    if program == any(problem.severity == "error" and not problem.place.path.endswith(TESTS) for problem in problems):
        return "neither a program without errors nor errors without a program"
    for problem in problems:
        place = problem.place
        if place.path not in pack or place.line < 1 or place.column < 1:
            return f"no such place: {problem}"
        if problem.code not in CODES or not problem.message or len(problem.message) > 1_000:
            return f"no such problem: {str(problem)[:300]}"
        if len(str(problem).splitlines()) != 1:
            return f"more than one line: {str(problem)[:300]}"
    return ""


def run(packs: int, seed: int, tell: Callable[[int], None] = lambda _: None) -> Findings:
    """Read so many mutated packs, and return what came of them."""
    mutator, found = Mutator(seed), Findings()
    for original in mutator.packs:  # what is only looked up once is looked up now
        read_pack(original, run=True)
        load({"x.yaml": "contact: { no_time_zone: { else: Nowhere } }"})
    for number in range(packs):
        kind, pack = mutator.next()
        began = time.process_time()
        wrong = ""
        try:
            with watched() as executed:
                problems, program, ran = read_pack(pack, run=found.programs % RUN_EVERY == 0)
            wrong = check(problems, pack, program=program) or "; ".join(executed)
        except Exception:
            problems, program, ran, wrong = [], False, False, traceback.format_exc()
        spent = time.process_time() - began
        if wrong:
            found.failures.append(f"pack {number} of seed {seed} ({kind}): {wrong}")
        found.packs += 1
        found.kinds[kind] += 1
        found.codes.update({problem.code for problem in problems})
        found.programs += program
        found.refused += not program
        found.run += ran
        if spent > found.slowest:
            found.slowest, found.slowest_kind = spent, f"{kind}, pack {number}"
        tell(number)
    return found


def report(found: Findings, seed: int, seconds: float) -> str:
    """Return the findings as a page."""
    now = datetime.now(UTC)
    version = f"{sys.platform}, Python {sys.version.split()[0]}"
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in found.kinds.most_common())
    codes = ", ".join(f"{code} {count:,}" for code, count in sorted(found.codes.items()))
    missing = sorted(set(CODES) - set(found.codes))
    return f"""# Definitions as nobody should write them

Written by `python -m tests.mutated_packs --packs {found.packs} --seed {seed} --write` on {now:%Y-%m-%d}, {version}, on
a machine of two cores that did other things at the same time; seconds are CPU-seconds of this process.

The shipped packs, changed in their text, their structure and their conditions, or blown up: aliases that multiply,
depth, length, numbers. Each ends in a list of problems or in a program.

| | |
|---|---|
| packs | {found.packs:,}: {kinds} |
| refused with a list of problems | {found.refused:,} |
| loaded | {found.programs:,}, of {found.run:,} the tests were run as well |
| tracebacks, wrong answers, code executed | {len(found.failures)} |
| CPU-seconds in all | {seconds:,.0f} |
| the slowest | {found.slowest:.2f} CPU-s ({found.slowest_kind}) |

Problems met, by the number of packs: {codes}.

Never met here, each with a file of its own in `tests/definitions/bad`: {", ".join(missing) or "none"}.
"""


def main() -> int:
    """Print what came of the packs; exit 1 if one of them did what none may."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true", help=f"write {REPORT.relative_to(ROOT)}")
    options = parser.parse_args()
    began = time.process_time()

    def tell(number: int) -> None:
        if sys.stderr.isatty() and number % 100 == 0:
            print(f"\r{number:,} of {options.packs:,}", end="", file=sys.stderr)

    found = run(options.packs, options.seed, tell)
    text = report(found, options.seed, time.process_time() - began)
    print(text)
    for failure in found.failures[:5]:
        print(failure)
    if options.write:
        REPORT.write_text(text, encoding="utf-8")
    return 1 if found.failures else 0


if __name__ == "__main__":
    raise SystemExit(main())

"""YAML as values that remember their line and column; decoding reports problems, never raises.

`yaml.safe_load` reads `on:` as True, `21:00` as 1260, `NO` as False, and lets a duplicate key win silently. Composing
the node tree and decoding it ourselves keeps every scalar as the text that was written, and its place.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import yaml


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where something stands: path, line and column, both from 1."""

    path: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """What is wrong at a place, with a stable code; `severity` is error or warning."""

    place: Place
    code: str
    message: str
    severity: str = "error"

    def __str__(self) -> str:
        return f"{self.place}: {self.code} {self.message}"


@dataclass(frozen=True, slots=True)
class Scalar:
    """The text of one value; `quoted` tells whether it was written in quotes."""

    place: Place
    text: str
    quoted: bool


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list of nodes."""

    place: Place
    items: tuple[Node, ...]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.items)


@dataclass(frozen=True, slots=True)
class Mapping:
    """Named nodes in the order written; `keys` keeps the place of every name."""

    place: Place
    entries: dict[str, Node]
    keys: dict[str, Place]


Node = Scalar | Sequence | Mapping


@dataclass(slots=True)
class Problems:
    """Collects problems, so that all are shown at once."""

    found: list[Problem] = field(default_factory=list)

    def error(self, place: Place, code: str, message: str) -> None:
        """Note an error."""
        self.found.append(Problem(place, code, message))

    def warn(self, place: Place, code: str, message: str) -> None:
        """Note a warning."""
        self.found.append(Problem(place, code, message, "warning"))

    def sorted(self) -> list[Problem]:
        """Return what was found, by place, without repetitions."""
        return sorted(set(self.found))

    @property
    def errors(self) -> bool:
        """Whether anything found is an error."""
        return any(problem.severity == "error" for problem in self.found)


def parse(text: str, path: str, problems: Problems) -> Node | None:
    """Return the node tree of one YAML document, or None after noting why there is none."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(path, mark.line + 1, mark.column + 1) if mark else Place(path)
        problems.error(place, "E001", f"not YAML: {error.problem or error.context}")
        return None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problems.error(Place(path), "E001", f"not YAML: {' '.join(str(error).split())[:200] or type(error).__name__}")
        return None
    if root is None:
        problems.error(Place(path), "E002", "the file is empty")
        return None
    # An alias could make a small file unfold into a huge tree, so anchors are not part of the language.
    try:
        return _convert(root, path, problems, set(), 0)
    except RecursionError:
        problems.error(Place(path), "E001", "not YAML: nested too deeply")
        return None


_MAX_DEPTH = 40


def _convert(node: yaml.Node, path: str, problems: Problems, seen: set[int], depth: int) -> Node | None:
    place = Place(path, node.start_mark.line + 1, node.start_mark.column + 1)
    if id(node) in seen:
        problems.error(place, "E003", "aliases (*name) are not allowed here; write the value out")
        return None
    if depth > _MAX_DEPTH:
        problems.error(place, "E001", "not YAML: nested too deeply")
        return None
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode):
        return Scalar(place, node.value, node.style in ("'", '"'))
    if isinstance(node, yaml.SequenceNode):
        items = (_convert(item, path, problems, seen, depth + 1) for item in node.value)
        return Sequence(place, tuple(item for item in items if item is not None))
    assert isinstance(node, yaml.MappingNode)
    entries: dict[str, Node] = {}
    keys: dict[str, Place] = {}
    for key_node, value_node in node.value:
        key_place = Place(path, key_node.start_mark.line + 1, key_node.start_mark.column + 1)
        if not isinstance(key_node, yaml.ScalarNode):
            problems.error(key_place, "E004", "a field's name must be plain text")
            continue
        name = key_node.value
        if name in keys:
            problems.error(key_place, "E005", f"field '{name}' was already set on line {keys[name].line}")
            continue
        value = _convert(value_node, path, problems, seen, depth + 1)
        keys[name] = key_place
        if value is not None:
            entries[name] = value
    return Mapping(place, entries, keys)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `, did you mean 'x'?` for the nearest known word, or nothing."""
    near = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f", did you mean '{near[0]}'?" if near else ""

"""YAML as values that remember their line and column; decoding reports problems, never raises.

`yaml.safe_load` reads `on:` as True, `21:00` as 1260, `NO` as False, and lets a duplicate key win silently. Building
nodes from the parser's events ourselves keeps every scalar as the text that was written, and its place.
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


MAX_CHARACTERS = 1_000_000
"""How long one file may be: what a ConfigMap holds."""

_MAX_DEPTH = 40
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster; a build of PyYAML may lack it


def parse(text: str, path: str, problems: Problems) -> Node | None:
    """Return the node tree of one YAML document, or None after noting why there is none."""
    if len(text) > MAX_CHARACTERS:
        most = f"at most {MAX_CHARACTERS:,}"
        problems.error(Place(path), "E001", f"a file of {len(text):,} characters is too long, {most}")
        return None
    try:
        return _Composer(yaml.parse(text, Loader=_LOADER), path, problems).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(path, mark.line + 1, mark.column + 1) if mark else Place(path)
        where = f" {error.context}" if error.problem and error.context else ""
        if where and error.context_mark:
            where += f" that began on line {error.context_mark.line + 1}"
        problems.error(place, "E001", f"not YAML: {error.problem or error.context}{where}")
    except (yaml.YAMLError, ValueError) as error:
        problems.error(Place(path), "E001", f"not YAML: {' '.join(str(error).split())[:200] or type(error).__name__}")
    return None


class _TooDeepError(ValueError):
    pass


class _Composer:
    """Makes nodes of a parser's events, for these come one by one however deep or long a text is.

    An alias could make a small file unfold into a huge tree, and a tag ask for an object of some class, so neither is
    part of the language.
    """

    def __init__(self, events: Iterator[yaml.Event], path: str, problems: Problems) -> None:
        self.events = events
        self.path = path
        self.problems = problems

    def document(self) -> Node | None:
        """Return the one document of a file, or None."""
        root, documents = None, 0
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self.problems.error(self.place(event), "E001", "not YAML: another document begins, a file has one")
                    return None
                root = self.node(next(self.events), 0)
        if not documents:
            self.problems.error(Place(self.path), "E002", "the file is empty")
        return root

    def place(self, event: yaml.Event) -> Place:
        """Return where an event begins."""
        mark = event.start_mark
        assert mark is not None
        return Place(self.path, mark.line + 1, mark.column + 1)

    def node(self, event: yaml.Event, depth: int) -> Node | None:
        """Return the node that begins with an event, or None after noting why it is none."""
        place = self.place(event)
        if isinstance(event, yaml.AliasEvent):
            self.problems.error(place, "E003", "aliases (*name) are not allowed here; write the value out")
            return None
        if depth > _MAX_DEPTH:
            raise _TooDeepError("nested too deeply")
        assert isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)
        if event.tag not in (None, "!"):
            self.problems.error(place, "E006", "tags (!name) are not allowed here; write the value alone")
        if isinstance(event, yaml.ScalarEvent):
            return Scalar(place, event.value, event.style in ("'", '"'))
        if isinstance(event, yaml.SequenceStartEvent):
            return Sequence(place, tuple(item for item in self.items(depth) if item is not None))
        return self.mapping(place, depth)

    def items(self, depth: int) -> Iterator[Node | None]:
        """Yield the items of a list up to its end."""
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            yield self.node(event, depth + 1)

    def mapping(self, place: Place, depth: int) -> Mapping:
        """Return the fields up to their end."""
        entries: dict[str, Node] = {}
        keys: dict[str, Place] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key_place = self.place(event)
            key = self.node(event, depth + 1)
            value = self.node(next(self.events), depth + 1)
            if not isinstance(key, Scalar):
                if key is not None:
                    self.problems.error(key_place, "E004", "a field's name must be plain text")
            elif key.text in keys:
                first = keys[key.text].line
                name = " ".join(key.text.split())[:60]
                self.problems.error(key_place, "E005", f"field '{name}' was already set on line {first}")
            else:
                keys[key.text] = key_place
                if value is not None:
                    entries[key.text] = value
        return Mapping(place, entries, keys)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `, did you mean 'x'?` for the nearest known word, or nothing."""
    near = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f", did you mean '{near[0]}'?" if near else ""

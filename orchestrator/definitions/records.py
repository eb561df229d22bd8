"""Nodes read by the table of fields: objects with checked values, and a problem for everything that does not fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from orchestrator.definitions.catalogue import PROFILE_TYPES, Catalogue
from orchestrator.definitions.fields import FAMILIES, KINDS, Field, Kind
from orchestrator.definitions.nodes import Mapping, Node, Place, Problems, Scalar, Sequence, did_you_mean
from orchestrator.definitions.values import PARSERS, WINDOW, shown

T = TypeVar("T")

NOT_YET = "E050"
"""The code of what the language will have, and has not yet."""


@dataclass(frozen=True, slots=True)
class Word:
    """A name as written, and where."""

    text: str
    place: Place


@dataclass(frozen=True, slots=True)
class Property:
    """A property of an event, and where it was named."""

    event: str
    name: str
    type: str
    place: Place


@dataclass(frozen=True, slots=True)
class Record:
    """One object: its values by field, defaults included, and where each was written.

    It is `sound` if nothing in it was wrong: then what the table requires is there.
    """

    kind: Kind
    place: Place
    values: dict[str, object]
    places: dict[str, Place]
    sound: bool

    def get(self, name: str, of: type[T]) -> T | None:
        """Return a value, or None when there is none or it was wrong."""
        value = self.values.get(name)
        assert value is None or isinstance(value, of), (self.kind.name, name)
        return value

    def need(self, name: str, of: type[T]) -> T:
        """Return a value that a sound object has."""
        value = self.get(name, of)
        assert value is not None, (self.kind.name, name)
        return value

    def words(self, name: str) -> tuple[Word, ...]:
        """Return the names written in a field."""
        value = self.values.get(name, ())
        return tuple(item for item in (value if isinstance(value, tuple) else (value,)) if isinstance(item, Word))

    def texts(self, name: str) -> tuple[str, ...]:
        """Return the names written in a field, as text."""
        return tuple(word.text for word in self.words(name))

    def records(self, name: str) -> tuple[Record, ...]:
        """Return the objects written in a field."""
        value = self.values.get(name, ())
        return tuple(item for item in (value if isinstance(value, tuple) else (value,)) if isinstance(item, Record))

    def at(self, name: str) -> Place:
        """Return where a field's value was written, or the object's own place."""
        return self.places.get(name, self.place)


class Reader:
    """Reads nodes by kind; what does not fit becomes a problem."""

    def __init__(self, catalogue: Catalogue, problems: Problems) -> None:
        self.catalogue = catalogue
        self.problems = problems

    def read(self, kind: str, node: Node, title: str) -> Record | None:
        """Return the object of a kind or family, or None when it is none at all."""
        if not isinstance(node, Mapping):
            self.problems.error(node.place, "E012", f"{title} must be fields, like `name: value`")
            return None
        family = FAMILIES.get(kind)
        found = KINDS[kind] if family is None else self._alternative(family, node, title)
        return None if found is None else self._fields(found, node, title)

    def _alternative(self, kinds: tuple[Kind, ...], node: Mapping, title: str) -> Kind | None:
        heads = [name for name in node.keys if name in {kind.head for kind in kinds}]
        if len(heads) == 1:
            return next(kind for kind in kinds if kind.head == heads[0])
        if heads:
            self.problems.error(
                node.keys[heads[1]], "E013", f"only one of '{heads[0]}' and '{heads[1]}' can be set for {title}"
            )
            return None
        known = {name for kind in kinds for name in _names(kind)}
        strangers = [name for name in node.keys if name not in known]
        for name in strangers:
            self._unknown(node.keys[name], name, known)
        if not strangers:
            options = ", ".join(kind.head for kind in kinds)
            self.problems.error(node.place, "E011", f"{title} needs one of {options}")
        return None

    def _fields(self, kind: Kind, node: Mapping, title: str) -> Record:
        mark = len(self.problems.found)
        values: dict[str, object] = {}
        places: dict[str, Place] = {}
        hints = ""
        for name, place in node.keys.items():
            known = kind.field(name)
            if known is not None:
                value = node.entries.get(name)
                if value is None:  # its own problem was noted when the text was parsed
                    continue
                places[name] = value.place
                parsed = self._value(known, value)
                if parsed is not None:
                    values[name] = parsed
            elif name in kind.planned:
                self.not_yet(place, f"'{name}'" + (f" together with '{kind.head}'" if kind.head else ""))
            elif any(name in _names(sibling) for sibling in FAMILIES.get(kind.name.partition("/")[0], ())):
                self.problems.error(place, "E015", f"field '{name}' does not go with '{kind.head}'")
            else:
                hints += self._unknown(place, name, _names(kind))
        # What looks missing may be what another word will stand for, as `series` for `send`.
        refused = any(problem.code == NOT_YET for problem in self.problems.found[mark:])
        for known in kind.fields:
            if known.name in node.keys:
                continue
            spared = any(_says(values, other) for other in known.spared)
            if known.required and not spared and not refused and f"'{known.name}'" not in hints:
                self.problems.error(
                    node.place, "E011", f"{title} has no '{known.name}', write it like {known.name}: {known.example}"
                )
            elif known.default:
                values[known.name] = self._plain(known, Scalar(node.place, known.default, quoted=True))
        # What was refused when the text was parsed, such as an alias, is missing here without another problem.
        whole = node.keys.keys() == node.entries.keys()
        inner = [one for value in values.values() for one in (value if isinstance(value, tuple) else (value,))]
        whole = whole and all(one.sound for one in inner if isinstance(one, Record))
        return Record(kind, node.place, values, places, whole and clean(self.problems, mark))

    def _value(self, known: Field, node: Node) -> object | None:
        if not isinstance(node, Sequence):
            one = self._one(known, node)
            return None if one is None else (one,) if known.many else one
        if not known.many:
            self._misshapen(known, node, "a list")
            return None
        if not node.items:
            self.problems.error(node.place, "E014", f"'{known.name}' is an empty list")
            return None
        items = [self._one(known, item) for item in node]
        return tuple(item for item in items if item is not None)

    def _one(self, known: Field, node: Node) -> object | None:
        if isinstance(node, Mapping):
            if known.type == "durations":
                return self._durations(known, node)
            if known.type in ("shares", "amounts", "conditions", "costs"):
                return self._named(known, node)
            if known.kind:
                return self.read(known.kind, node, f"'{known.name}'")
            self._misshapen(known, node, "fields")
            return None
        if isinstance(node, Sequence):
            self._misshapen(known, node, "a list")
            return None
        if not node.text.strip():
            self.problems.error(node.place, "E014", f"'{known.name}' is empty, write it like {known.example}")
            return None
        if known.type in ("object", "durations", "shares", "amounts", "conditions"):
            self._misshapen(known, node, shown(node.text))
            return None
        return self._plain(known, node)

    def _plain(self, known: Field, scalar: Scalar) -> object | None:
        if any(scalar.text == word or (word[-1] in ":." and scalar.text.startswith(word)) for word in known.planned):
            self.not_yet(scalar.place, f"{known.name}: {shown(scalar.text)[1:-1]}")
            return None
        if known.type == "choice":
            return self._choice(known, scalar)
        if known.type == "model":
            return self._model(known, scalar)
        if known.type == "event":
            return self._event(scalar)
        if known.type == "property":
            return self._property(scalar)
        if known.type == "profile":
            return self._profile(scalar)
        if known.type in ("condition", "amount"):
            return scalar
        if known.type == "name" and scalar.text in known.options:
            return Word(scalar.text, scalar.place)
        value = PARSERS["money" if known.type == "costs" else known.type](scalar, self.problems)
        if known.type == "name" and isinstance(value, str):
            return Word(value, scalar.place)
        if isinstance(value, int) and not isinstance(value, bool) and not self._in_range(known, value, scalar):
            return None
        return value

    def _in_range(self, known: Field, value: int, scalar: Scalar) -> bool:
        if known.type == "window" and value == WINDOW:
            return True
        for bound, sign, word in ((known.low, 1, "at least"), (known.high, -1, "at most")):
            if not bound:
                continue
            limit = PARSERS[known.type](Scalar(scalar.place, bound, quoted=True), self.problems)
            assert isinstance(limit, int)
            if (value - limit) * sign < 0:
                self.problems.error(
                    scalar.place, "E016", f"'{known.name}' is {shown(scalar.text)}, it must be {word} {bound}"
                )
                return False
        return True

    def _choice(self, known: Field, scalar: Scalar) -> Word | None:
        if scalar.text in known.options:
            return Word(scalar.text, scalar.place)
        near = did_you_mean(scalar.text[:64], known.options)
        expected = f"must be {known.options[0]}" if len(known.options) == 1 else f"is one of {', '.join(known.options)}"
        self.problems.error(scalar.place, "E027", f"'{known.name}' {expected}, not {shown(scalar.text)}{near}")
        return None

    def _model(self, known: Field, scalar: Scalar) -> Word | None:
        source, colon, topic = scalar.text.partition(":")
        if source != "topic" or not colon:
            return self._choice(known, scalar)
        if topic in self.catalogue.topics:
            return Word(scalar.text, scalar.place)
        near = did_you_mean(topic[:64], self.catalogue.topics)
        self.problems.error(scalar.place, "E046", f"unknown topic {shown(topic)}{near}")
        return None

    def _event(self, scalar: Scalar) -> Word | None:
        if scalar.text in self.catalogue.events:
            return Word(scalar.text, scalar.place)
        near = did_you_mean(scalar.text[:64], self.catalogue.events)
        self.problems.error(scalar.place, "E040", f"unknown event {shown(scalar.text)}{near}")
        return None

    def _property(self, scalar: Scalar) -> Property | None:
        if scalar.text in self.catalogue.events:
            kinds = self.catalogue.events[scalar.text].properties
            example = next((name for name in kinds if kinds[name] in ("money", "number")), next(iter(kinds), "name"))
            self.problems.error(
                scalar.place,
                "E041",
                f"{shown(scalar.text)} is an event, name one of its properties: {scalar.text}.{example}",
            )
            return None
        stem, _, name = scalar.text.rpartition(".")
        event = self._event(Scalar(scalar.place, stem or scalar.text, scalar.quoted))
        if event is None:
            return None
        properties = self.catalogue.events[event.text].properties
        if name not in properties:
            near = did_you_mean(name[:64], properties)
            self.problems.error(scalar.place, "E041", f"{event.text} has no property {shown(name)}{near}")
            return None
        return Property(event.text, name, properties[name], scalar.place)

    def _profile(self, scalar: Scalar) -> Word | None:
        source, _, name = scalar.text.partition(".")
        dates = [f"profile.{known}" for known, kind in PROFILE_TYPES.items() if kind == "date"]
        if source == "profile" and PROFILE_TYPES.get(name) == "date":
            return Word(name, scalar.place)
        near = did_you_mean(scalar.text[:64], dates) or f", write it like {dates[0]}"
        self.problems.error(scalar.place, "E029", f"{shown(scalar.text)} is not a date of the profile{near}")
        return None

    def _durations(self, known: Field, node: Mapping) -> dict[str, int]:
        found: dict[str, int] = {}
        one = Field(known.name, "duration", known.description, known.example, low=known.low, high=known.high)
        for topic, place in node.keys.items():
            if topic not in self.catalogue.topics:
                near = did_you_mean(topic[:64], self.catalogue.topics)
                self.problems.error(place, "E046", f"unknown topic {shown(topic)}{near}")
            elif topic in node.entries:
                value = self._one(one, node.entries[topic])
                if isinstance(value, int):
                    found[topic] = value
        return found

    def _named(self, known: Field, node: Mapping) -> dict[str, Scalar | int]:
        """Return values by name: shares in thousandths, others as written, for what they are in is known later."""
        found: dict[str, Scalar | int] = {}
        for name, value in node.entries.items():
            if PARSERS["name"](Scalar(node.keys[name], name, quoted=True), self.problems) is None:
                continue
            if not isinstance(value, Scalar):
                self._misshapen(known, value, "no plain value")
            elif known.type != "shares":
                found[name] = value
            else:
                share = PARSERS["multiple"](value, self.problems)
                if isinstance(share, int) and share >= 1000:
                    self.problems.error(value.place, "E016", f"the share of {name} is {value.text}, it must be below 1")
                elif isinstance(share, int):
                    found[name] = share
        return found

    def not_yet(self, place: Place, what: str) -> None:
        """Note something that the language will have, and has not yet."""
        self.problems.error(place, NOT_YET, f"not supported yet: {what}")

    def _unknown(self, place: Place, name: str, known: set[str]) -> str:
        """Note an unknown field, and return the hint that was given."""
        hint = did_you_mean(name[:64], known)
        self.problems.error(place, "E010", f"unknown field {shown(name)}{hint}")
        return hint

    def _misshapen(self, known: Field, node: Node, saw: str) -> None:
        self.problems.error(
            node.place, "E012", f"'{known.name}' is written like {known.name}: {known.example}, we saw {saw}"
        )


def _names(kind: Kind) -> set[str]:
    return {known.name for known in kind.fields}


def _says(values: dict[str, object], what: str) -> bool:
    """Return whether a field is set, or set to a word: `series`, `class: legal`."""
    name, _, word = what.partition(": ")
    value = values.get(name)
    return value is not None if not word else isinstance(value, Word) and value.text == word


def clean(problems: Problems, mark: int) -> bool:
    """Return whether no error was noted since there were `mark` problems."""
    return all(problem.severity != "error" for problem in problems.found[mark:])

"""Small conditions: text to `Condition`, parsed and type-checked in one pass, in bounded time and depth.

`and or not`, comparisons, `in [...]`, `is unknown`, durations, money, `age(x)`, `in_segment('x')` and nothing else: no
arithmetic, no aggregates, no time windows. Those are features.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NoReturn

from orchestrator import conditions
from orchestrator.conditions import Condition, Expression
from orchestrator.definitions.catalogue import PRODUCT_TYPES, PROFILE_TYPES
from orchestrator.definitions.nodes import Place, Problems, Scalar, did_you_mean
from orchestrator.definitions.values import TYPE_WORDS, WORDS, is_date, milliseconds, minor_units, shown
from orchestrator.features import PER_LINE_KEYS

MAX_LENGTH = 2_000
MAX_DEPTH = 50

ANY = "any"
"""The type of what is wrong already, so that one mistake is told once."""

_EXAMPLES = {"duration": "30d", "money": "20", "number": "3", "text": "'high'", "instant": "age(...) >= 30d"}


@dataclass(frozen=True, slots=True)
class Declared:
    """What others must know of a feature: the type of its value, what it is kept per, its kind, and all its values
    where these are few.
    """

    type: str
    key: str | None = None
    kind: str = ""
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scope:
    """What a condition may ask about.

    `event` are the properties of the event it looks at, if it looks at one; `moment` tells whether there is a moment,
    `key` what that is kept per.
    """

    features: Mapping[str, Declared] = field(default_factory=dict)
    segments: Collection[str] = ()
    event: Mapping[str, str] | None = None
    moment: bool = False
    key: str | None = None


def compile_condition(scalar: Scalar, scope: Scope, problems: Problems) -> Condition | None:
    """Return the condition that a text is, or None after noting what is wrong with it."""
    start = Place(scalar.place.path, scalar.place.line, scalar.place.column + scalar.quoted)
    if len(scalar.text) > MAX_LENGTH:
        problems.error(start, "E033", f"a condition of {len(scalar.text)} characters is too long, use features")
        return None
    parser = _Parser(scalar.text, start, scope, problems)
    mark = len(problems.found)
    try:
        typed = parser.whole()
    except _Stop:
        return None
    return Condition(scalar.text, typed.expression) if len(problems.found) == mark else None


class _Stop(Exception):  # noqa: N818 - it ends the parsing of one text and never leaves this module
    pass


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int
    end: int


@dataclass(frozen=True, slots=True)
class _Typed:
    """An expression with its type and its text; `number` is the number it was written as, if it was."""

    expression: Expression
    type: str
    at: int
    end: int
    number: str | None = None

    @property
    def fixed(self) -> bool:
        return isinstance(self.expression, conditions.Literal)


_TOKENS = re.compile(
    r"(?P<number>-?[0-9][0-9A-Za-z_.]*)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<text>'[^']*'|\"[^\"]*\")"
    r"|(?P<op>==|!=|<=|>=|<|>)|(?P<mark>[()\[\],.])"
)
_NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,6})?")
_HABITS = {
    "=": "'=='", "&": "'and'", "|": "'or'", "!": "'not' or '!='", "‘": "'", "’": "'", "“": "'", "”": "'",
    "%": "a number without %", "+": "a feature: conditions do not calculate",
    "-": "a feature: conditions do not calculate", "*": "a feature: conditions do not calculate",
    "/": "a feature: conditions do not calculate",
}  # fmt: skip
_FUNCTIONS = ("age", "in_segment", "bought_within")
BOUGHT = "bought."
"""How the features are called that `bought_within` asks: the last order of each category, family or sku."""
_SOURCES = ("profile", "moment", "event", "product")

_POWERS = {"or": 1, "and": 2}
_NOT = 3


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        match = _TOKENS.match(text, at)
        if match is None:
            yield _Token("stranger", text[at], at, at + 1)
            return
        yield _Token(str(match.lastgroup), match[0], at, match.end())
        at = match.end()
    yield _Token("end", "", len(text), len(text))


class _Parser:
    """A Pratt parser: `expression(power)` reads as far as operators bind tighter than `power`."""

    def __init__(self, text: str, start: Place, scope: Scope, problems: Problems) -> None:
        self.text, self.start, self.scope, self.problems = text, start, scope, problems
        self.tokens = list(_tokens(text))
        self.next = 0
        self.depth = 0

    # --- what stands next ---

    @property
    def token(self) -> _Token:
        return self.tokens[self.next]

    def take(self) -> _Token:
        token = self.token
        if token.kind == "stranger":
            hint = _HABITS.get(token.text)
            self.stop(token.at, "E030", f"unexpected {shown(token.text)}" + (f", write {hint}" if hint else ""))
        if token.kind != "end":
            self.next += 1
        return token

    def meets(self, *texts: str) -> bool:
        return self.token.kind not in ("text", "stranger") and self.token.text in texts

    def expect(self, text: str, after: str) -> _Token:
        if not self.meets(text):
            self.unexpected(f"expected '{text}' after {after}")
        return self.take()

    # --- problems ---

    def place(self, at: int) -> Place:
        before = self.text[:at]
        if "\n" in before:  # a block of lines: its columns are not known here, its lines are
            return Place(self.start.path, self.start.line + before.count("\n"), self.start.column)
        return Place(self.start.path, self.start.line, self.start.column + at)

    def note(self, at: int, code: str, message: str) -> None:
        self.problems.error(self.place(at), code, message)

    def stop(self, at: int, code: str, message: str) -> NoReturn:
        self.note(at, code, message)
        raise _Stop

    def unexpected(self, expected: str) -> NoReturn:
        token = self.token
        if token.kind == "stranger":
            self.take()
        saw = "the end" if token.kind == "end" else shown(token.text)
        self.stop(token.at, "E030", f"unexpected {saw}, {expected}")

    # --- logic ---

    def whole(self) -> _Typed:
        typed = self.expression(0)
        if self.token.kind != "end":
            self.unexpected("expected 'and', 'or' or the end")
        self.truth(typed)
        return typed

    def expression(self, power: int) -> _Typed:
        self.deeper()
        left = self.negation() if self.meets("not") else self.comparison()
        while self.meets(*_POWERS) and _POWERS[self.token.text] > power:
            left = self.chain(left, self.token.text)
        self.depth -= 1
        return left

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.stop(self.token.at, "E033", "a condition nested this deep cannot be read, use features or segments")

    def negation(self) -> _Typed:
        at = self.take().at
        operand = self.expression(_NOT)
        self.truth(operand)
        return _Typed(conditions.Not(operand.expression), "truth", at, operand.end)

    def chain(self, first: _Typed, word: str) -> _Typed:
        operands = [first]
        while self.meets(word):
            self.take()
            operands.append(self.expression(_POWERS[word]))
        for operand in operands:
            self.truth(operand)
        joined = tuple(operand.expression for operand in operands)
        expression = conditions.And(joined) if word == "and" else conditions.Or(joined)
        return _Typed(expression, "truth", first.at, operands[-1].end)

    def truth(self, typed: _Typed) -> None:
        if typed.type in ("truth", ANY):
            return
        example = _EXAMPLES.get(typed.type)
        hint = f", compare it, like {self.name_of(typed)} == {example}" if example and not typed.fixed else ""
        if typed.type == "instant":
            hint = f", compare its age, like age({self.name_of(typed)}) >= 30d"
        self.note(typed.at, "E032", f"{self.name_of(typed)} is {TYPE_WORDS[typed.type]}, not true or false{hint}")

    # --- comparisons ---

    def comparison(self) -> _Typed:
        left = self.operand()
        if self.token.kind == "op":
            return self.compare(left, self.take())
        if self.meets("is"):
            return self.is_unknown(left)
        if self.meets("in"):
            return self.among(left)
        if self.meets("not"):
            self.unexpected("write it like not x in [...]")
        return left

    def compare(self, left: _Typed, operator: _Token) -> _Typed:
        right = self.operand()
        if self.token.kind == "op":
            self.unexpected("compare two things at a time and join them with 'and'")
        if left.fixed and right.fixed:
            self.note(left.at, "E032", f"{self.name_of(left)} and {self.name_of(right)} are both fixed: "
                      "the answer is always the same")  # fmt: skip
        else:
            left, right = self.scaled(left, right), self.scaled(right, left)
            self.check(left, right, operator.text, left.at)
        expression = conditions.Compare(operator.text, left.expression, right.expression)
        return _Typed(expression, "truth", left.at, right.end)

    def is_unknown(self, left: _Typed) -> _Typed:
        self.take()
        negated = self.meets("not")
        if negated:
            self.take()
        end = self.token.end
        self.expect("unknown", "'is'")
        if left.fixed:
            self.note(left.at, "E032", f"{self.name_of(left)} is fixed, it is never unknown")
        return _Typed(conditions.IsUnknown(left.expression, negated), "truth", left.at, end)

    def among(self, left: _Typed) -> _Typed:
        self.take()
        self.expect("[", "'in'")
        options: list[Any] = []
        while not self.meets("]"):
            if self.token.kind not in ("number", "text") and not self.meets("true", "false"):
                self.unexpected("between '[' and ']' stand numbers and texts in quotes")
            option = self.scaled(self.operand(), left)
            self.check(left, option, "==", option.at)
            assert isinstance(option.expression, conditions.Literal)
            options.append(option.expression.fixed)
            if not self.meets(","):
                break
            self.take()
        end = self.expect("]", "the list").end
        if not options:
            self.note(left.at, "E030", "the list after 'in' is empty")
        if left.fixed:
            self.note(left.at, "E032", f"{self.name_of(left)} is fixed: the answer is always the same")
        return _Typed(conditions.Among(left.expression, tuple(options)), "truth", left.at, end)

    def scaled(self, side: _Typed, other: _Typed) -> _Typed:
        """Return a number as money where it stands beside money: the units of the other side."""
        if side.number is None or side.type != "number" or other.type != "money":
            return side
        cents = minor_units(side.number.removeprefix("-"))
        if cents is None:
            self.note(side.at, "E032", f"{side.number} has more decimals than money has: at most two")
            return _Typed(side.expression, ANY, side.at, side.end)
        return _Typed(conditions.Literal(-cents if side.number.startswith("-") else cents), "money", side.at, side.end)

    def check(self, left: _Typed, right: _Typed, operator: str, at: int) -> None:
        types = {left.type, right.type}
        if ANY in types or (types == {"text", "date"} and self.are_dates(left, right)):
            return
        if len(types) == 2 or "lines" in types:
            self.note(at, "E032", self.mismatch(left, right))
        elif left.type == "text" and (self.foreign(left, right) or self.foreign(right, left)):
            return
        elif operator not in ("==", "!=") and types & {"text", "truth"}:
            self.note(at, "E032", f"'{operator}' does not go with {TYPE_WORDS[left.type]}, only '==' and '!=' do")

    def foreign(self, feature: _Typed, text: _Typed) -> bool:
        """Note a text that is none of a feature's few values."""
        read, fixed = feature.expression, text.expression
        if (
            not isinstance(read, conditions.Read)
            or read.source != "feature"
            or not isinstance(fixed, conditions.Literal)
        ):
            return False
        declared = self.scope.features.get(read.name)
        if declared is None or not declared.options or fixed.fixed in declared.options:
            return False
        near = did_you_mean(str(fixed.fixed)[:64], declared.options) or f", it is one of {', '.join(declared.options)}"
        self.note(text.at, "E032", f"{read.name} is never {self.name_of(text)}{near}")
        return True

    def are_dates(self, left: _Typed, right: _Typed) -> bool:
        texts = [side.expression for side in (left, right) if side.type == "text"]
        return all(isinstance(text, conditions.Literal) and is_date(text.fixed) for text in texts)

    def mismatch(self, left: _Typed, right: _Typed) -> str:
        says = f"{self.name_of(left)} is {TYPE_WORDS[left.type]} and {self.name_of(right)} is {TYPE_WORDS[right.type]}"
        number = left.number or right.number
        types = {left.type, right.type}
        if types == {"duration", "number"} and number:
            return f"{says}, write it like {number.partition('.')[0]}d"
        if types == {"instant", "duration"}:
            instant = left if left.type == "instant" else right
            return f"{says}, write age({self.name_of(instant)})"
        if types == {"text", "date"}:
            return f"{says}, write it like '1990-12-31'"
        return says

    # --- operands ---

    def operand(self) -> _Typed:
        self.deeper()
        typed = self.number() if self.token.kind == "number" else self.name_or_text()
        self.depth -= 1
        return typed

    def name_or_text(self) -> _Typed:
        token = self.token
        if token.kind == "text":
            self.take()
            return _Typed(conditions.Literal(token.text[1:-1]), "text", token.at, token.end)
        if self.meets("("):
            self.take()
            inner = self.expression(0)
            closing = self.expect(")", "what stands in brackets")
            return _Typed(inner.expression, inner.type, token.at, closing.end)
        if token.kind != "name" or token.text in ("and", "or", "not", "in", "is", "unknown"):
            self.unexpected("expected a name, a number or a text in quotes")
        self.take()
        if token.text in ("true", "false"):
            return _Typed(conditions.Literal(token.text == "true"), "truth", token.at, token.end)
        if self.meets("("):
            return self.function(token)
        if token.text in _SOURCES and self.meets("."):
            return self.member(token)
        if token.text == "feature" and self.meets("["):
            self.unexpected("write the feature's own name, like family_orders['shampoo']")
        return self.bare(token)

    def number(self) -> _Typed:
        token = self.take()
        length = milliseconds(token.text)
        if length is not None:
            return _Typed(conditions.Literal(length), "duration", token.at, token.end)
        if _NUMBER.fullmatch(token.text) is None:
            self.note(token.at, "E030", f"{shown(token.text)} is neither a number nor a length of time like 30m or 7d")
            return _Typed(conditions.Literal(0), ANY, token.at, token.end)
        value = Decimal(token.text)
        fixed = int(value) if value == int(value) else float(value)
        return _Typed(conditions.Literal(fixed), "number", token.at, token.end, token.text)

    def function(self, token: _Token) -> _Typed:
        if token.text not in _FUNCTIONS:
            near = did_you_mean(token.text[:64], _FUNCTIONS) or ", there are age, in_segment and bought_within"
            self.stop(token.at, "E031", f"unknown function {shown(token.text)}{near}")
        self.take()
        if token.text == "bought_within":
            return self.bought_within(token)
        return self.age(token) if token.text == "age" else self.in_segment(token)

    def age(self, token: _Token) -> _Typed:
        inner = self.operand()
        end = self.expect(")", "age(...").end
        if inner.type not in ("instant", ANY):
            self.note(inner.at, "E032", f"age() takes an instant, {self.name_of(inner)} is {TYPE_WORDS[inner.type]}")
        return _Typed(conditions.Age(inner.expression), "duration", token.at, end)

    def in_segment(self, token: _Token) -> _Typed:
        written = self.token
        if written.kind != "text":
            self.unexpected("in_segment() takes the name of a segment in quotes")
        self.take()
        name = written.text[1:-1]
        end = self.expect(")", "in_segment(...").end
        if self.scope.event is not None:
            self.note(token.at, "E031", "a condition on events cannot ask about segments")
        elif name not in self.scope.segments:
            near = did_you_mean(name[:64], self.scope.segments)
            self.note(written.at + 1, "E031", f"unknown segment {shown(name)}{near}")
        return _Typed(conditions.InSegment(name), "truth", token.at, end)

    def bought_within(self, token: _Token) -> _Typed:
        key = self.token
        if key.kind != "name":
            self.unexpected("write it like bought_within(category, 90d)")
        self.take()
        self.expect(",", "what was bought")
        length = self.operand()
        end = self.expect(")", "bought_within(...").end
        if key.text not in PER_LINE_KEYS:
            near = did_you_mean(key.text, PER_LINE_KEYS) or f", it is one of {', '.join(PER_LINE_KEYS)}"
            self.note(key.at, "E031", f"bought_within() knows no {shown(key.text)}{near}")
        elif not self.scope.moment or self.scope.key not in (key.text, ANY):
            self.note(token.at, "E034", f"bought_within({key.text}, ...) needs a moment with `key: {key.text}`")
        if length.type not in ("duration", ANY) or not length.fixed:
            self.note(length.at, "E032", f"bought_within() takes a length of time like 90d, not {self.name_of(length)}")
        last = conditions.Read("feature", BOUGHT + key.text, None, "instant")
        # Who never bought did not buy of late: that is known.
        recent = conditions.Compare("<=", conditions.Age(last), length.expression)
        known = conditions.IsUnknown(last, negated=True)
        return _Typed(conditions.And((known, recent)), "truth", token.at, end)

    def bare(self, token: _Token) -> _Typed:
        name = token.text
        if self.scope.event is not None:
            return self.property(token, name)
        feature = self.scope.features.get(name)
        if feature is None:
            known = [*self.scope.features, *(f"{source}." for source in _SOURCES), *_FUNCTIONS]
            near = did_you_mean(name[:64], known)
            self.skip_rest()
            end = self.tokens[self.next - 1].end
            self.note(token.at, "E031", f"unknown name {shown(self.text[token.at : end])}{near}")
            return _Typed(conditions.Read("feature", name), ANY, token.at, end)
        written, key = self.key_of(token, feature)
        end = self.tokens[self.next - 1].end
        if feature.type == ANY:
            return _Typed(conditions.Read("feature", name, key), ANY, token.at, end)
        # Left out, the key is the moment's own: views know that, and explanations read better without it.
        if feature.key is not None and not written and self.scope.key not in (feature.key, ANY):
            self.note(token.at, "E034", f"'{name}' is kept per {feature.key}, say which: {name}['...']")
        return _Typed(conditions.Read("feature", name, key, feature.type), feature.type, token.at, end)

    def key_of(self, token: _Token, feature: Declared) -> tuple[bool, Expression | None]:
        if not self.meets("["):
            return False, None
        self.take()
        inner = self.operand()
        self.expect("]", "the key")
        if feature.type == ANY:
            return True, inner.expression
        if feature.key is None:
            self.note(token.at, "E034", f"'{token.text}' has one value per customer, it takes no key")
        elif inner.type == "number" and inner.number is not None:
            return True, conditions.Literal(inner.number)
        elif inner.type not in ("text", ANY):
            self.note(inner.at, "E032", f"a key is text, {self.name_of(inner)} is {TYPE_WORDS[inner.type]}")
        elif self.is_moments_key(inner.expression) and self.scope.key not in (feature.key, ANY):
            self.note(inner.at, "E034", f"'{token.text}' is kept per {feature.key}, the moment per {self.scope.key}")
        return True, inner.expression

    def is_moments_key(self, expression: Expression) -> bool:
        return isinstance(expression, conditions.Read) and expression.source == "moment"

    def skip_rest(self) -> None:
        while self.meets("."):
            self.take()
            if self.token.kind == "name":
                self.take()
        if self.meets("["):
            self.take()
            self.operand()
            self.expect("]", "the key")

    def member(self, source: _Token) -> _Typed:
        self.take()
        token = self.token
        if token.kind != "name":
            self.unexpected(f"expected a name after '{source.text}.'")
        self.take()
        if source.text == "event":
            return self.property(source, token.text)
        if source.text == "moment":
            return self.moment(source, token)
        if source.text == "product":
            return self.product(source, token)
        if self.scope.event is not None:
            self.note(source.at, "E031", "a condition on events cannot ask about the profile")
        if token.text == "attributes":
            return self.attribute(source)
        return self.known(source, token, PROFILE_TYPES)

    def moment(self, source: _Token, token: _Token) -> _Typed:
        read = _Typed(conditions.Read("moment", token.text, None, "text"), "text", source.at, token.end)
        if not self.scope.moment:
            self.note(source.at, "E031", "there is no moment here to ask about")
        elif self.scope.key is None:
            self.note(source.at, "E034", "there is no one key of the moment to ask about, give it a 'key'")
        elif token.text not in ("key", self.scope.key) and self.scope.key != ANY:
            only = f"moment.{self.scope.key}"
            self.note(source.at, "E031", f"the moment has no {shown(token.text)}, only its key: {only}")
        return read

    def product(self, source: _Token, token: _Token) -> _Typed:
        if not self.scope.moment or self.scope.key not in ("sku", ANY):
            self.note(source.at, "E034", "a product can only be asked about in a moment with `key: sku`")
        return self.known(source, token, PRODUCT_TYPES)

    def attribute(self, source: _Token) -> _Typed:
        self.expect("[", "profile.attributes")
        token = self.token
        if token.kind != "text":
            self.unexpected("write it like profile.attributes['loyalty']")
        self.take()
        end = self.expect("]", "the attribute's name").end
        name = token.text[1:-1]
        if name in PROFILE_TYPES:
            self.note(token.at, "E031", f"{shown(name)} is no attribute, write profile.{name}")
        return _Typed(conditions.Read("profile", name, None, "text"), "text", source.at, end)

    def known(self, source: _Token, token: _Token, types: Mapping[str, str]) -> _Typed:
        kind = types.get(token.text, ANY)
        if kind == ANY:
            near = did_you_mean(token.text[:64], types)
            if source.text == "profile":
                near = near or f", anything else is profile.attributes['{token.text[:64]}']"
            self.note(token.at, "E031", f"unknown name {shown(f'{source.text}.{token.text}')}{near}")
        return _Typed(conditions.Read(source.text, token.text, None, kind), kind, source.at, token.end)

    def property(self, token: _Token, name: str) -> _Typed:
        end = self.tokens[self.next - 1].end
        if self.scope.event is None:
            self.note(token.at, "E031", "there is no event here to ask about, only 'where' of a feature has one")
            return _Typed(conditions.Read("event", name), ANY, token.at, end)
        kind = self.scope.event.get(name, ANY)
        if kind == ANY:
            near = did_you_mean(name[:64], self.scope.event)
            self.note(token.at, "E031", f"{shown(name)} is not a property of the event{near}")
        return _Typed(conditions.Read("event", name, None, kind), kind, token.at, end)

    def name_of(self, typed: _Typed) -> str:
        """Return what was written, for messages."""
        return shown(self.text[typed.at : typed.end])[1:-1]


assert set(_FUNCTIONS) | set(_SOURCES) < WORDS

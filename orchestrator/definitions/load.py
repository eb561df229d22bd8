"""Texts to `Definitions`: all problems of all files at once, sorted by place."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from orchestrator.arbitration.campaign import Campaign
from orchestrator.arbitration.policy import Policy
from orchestrator.conditions import Condition
from orchestrator.definitions import nodes
from orchestrator.definitions.campaigns import CampaignBuilder, check_circles, check_lineage, window_of
from orchestrator.definitions.catalogue import CATALOGUE, Catalogue
from orchestrator.definitions.content import asked_by_content
from orchestrator.definitions.expressions import ANY, BOUGHT, Declared
from orchestrator.definitions.features import build_bands, build_features, declare, share_times
from orchestrator.definitions.fields import KINDS, POLICY_SECTIONS, SECTIONS
from orchestrator.definitions.meaning import check as check_meaning
from orchestrator.definitions.moments import MomentBuilder
from orchestrator.definitions.nodes import Place, Problem, Problems, did_you_mean, parse
from orchestrator.definitions.policy import build_policy
from orchestrator.definitions.records import Reader, Record, Word
from orchestrator.definitions.segments import build_segment, check_nesting
from orchestrator.definitions.values import WORDS, shown
from orchestrator.definitions.values import name as parse_name
from orchestrator.features import Feature
from orchestrator.measurement import FIRST_BOUGHT, NEW_CATEGORY
from orchestrator.moments.rules import Around, During, Moment, Silence
from orchestrator.program import Definitions, Program, Segment

TESTS = ".test.yaml"
"""How files end that hold tests, not definitions."""


def load(texts: Mapping[str, str], catalogue: Catalogue = CATALOGUE) -> tuple[Definitions | None, list[Problem]]:
    """Return the definitions that files hold, by path, or None if any has an error; and all problems found."""
    problems = Problems()
    files = {path: parse(texts[path], path, problems) for path in sorted(texts) if not path.endswith(TESTS)}
    loader = _Loader(catalogue, problems)
    for path, node in files.items():
        loader.gather(path, node)
    definitions = loader.link(_version(files.values()))
    return (None if problems.errors else definitions), problems.sorted()


class _Loader:
    def __init__(self, catalogue: Catalogue, problems: Problems) -> None:
        self.catalogue = catalogue
        self.problems = problems
        self.reader = Reader(catalogue, problems)
        self.places: dict[tuple[str, str], Place] = {}
        self.features: dict[str, nodes.Node | None] = {}
        self.segments: dict[str, nodes.Node | None] = {}
        self.moments: dict[str, nodes.Node] = {}
        self.campaigns: dict[str, nodes.Node] = {}
        self.nameless: list[tuple[str, nodes.Node]] = []
        self.sections: dict[str, nodes.Node] = {}

    # --- what stands where ---

    def gather(self, path: str, node: nodes.Node | None) -> None:
        """Take in the sections of a file, and note names that are already taken."""
        if node is None:
            return
        if not isinstance(node, nodes.Mapping):
            self.problems.error(Place(path), "E012", f"a file has sections: {', '.join(SECTIONS)}")
            return
        self._sections(node, SECTIONS)

    def _sections(self, node: nodes.Mapping, known: Iterable[str]) -> None:
        for section, place in node.keys.items():
            content = node.entries.get(section)
            if section not in known:
                near = did_you_mean(section[:64], known)
                self.problems.error(place, "E010", f"unknown section {shown(section)}{near}")
            elif content is None:
                continue
            elif section in ("features", "segments"):
                self._named(section, content)
            elif section in ("moments", "campaigns"):
                self._listed(section, content)
            elif section != "policy":
                if self._claim("section", section, place):
                    self.sections[section] = content
            elif isinstance(content, nodes.Mapping):
                self._sections(content, POLICY_SECTIONS)
            else:
                self.problems.error(content.place, "E012", f"'policy' has sections: {', '.join(POLICY_SECTIONS)}")

    def _claim(self, what: str, name: str, place: Place) -> bool:
        first = self.places.setdefault((what, name), place)
        if first != place:
            self.problems.error(place, "E047", f"{what} '{name}' is already defined at {first.path}:{first.line}")
        return first == place

    def _named(self, section: str, content: nodes.Node) -> None:
        if not isinstance(content, nodes.Mapping):
            self.problems.error(content.place, "E012", f"'{section}' are written like name: {{ ... }}")
            return
        found = self.features if section == "features" else self.segments
        for name, place in content.keys.items():
            if parse_name(nodes.Scalar(place, name, quoted=True), self.problems) is None:
                continue
            if section == "features" and name in WORDS:
                self.problems.error(place, "E026", f"'{name}' means something in conditions, choose another name")
            elif self._claim(section[:-1], name, place):
                found[name] = content.entries.get(name)

    def _listed(self, section: str, content: nodes.Node) -> None:
        what = section[:-1]
        if not isinstance(content, nodes.Sequence):
            self.problems.error(content.place, "E012", f"'{section}' are a list, each like - {what}: name")
            return
        found = self.moments if section == "moments" else self.campaigns
        for item in content:
            name = item.entries.get(what) if isinstance(item, nodes.Mapping) else None
            if not isinstance(name, nodes.Scalar):
                self.nameless.append((what, item))
            elif self._claim(what, name.text, name.place):
                found[name.text] = item

    # --- what it means ---

    def link(self, version: str) -> Definitions:
        """Return what everything gathered means, as far as it is right."""
        for what, node in self.nameless:
            self.reader.read(what, node, f"this {what}")
        features = self._features()
        declared = {name: declare(features[name]) if name in features else Declared(ANY) for name in self.features}
        names = frozenset(self.segments)
        segments = self._segments(declared, names)
        builder = MomentBuilder(self.catalogue, declared, names, self.problems)
        moments = self._moments(builder)
        features.update(builder.hidden)
        keys = {name: moments[name].key if name in moments else ANY for name in self.moments}
        campaigns = self._campaigns(declared, names, keys)
        sections = dict(self._policy())
        policy = build_policy(sections, declared, names, self.problems)
        self._check_exempt(sections["one_at_a_time"], campaigns)
        definitions = Definitions(
            version, features, segments, moments, campaigns, policy or Policy(), self.catalogue.topic_by_event
        )
        features.update(_asked_unwritten(definitions))
        if not self.problems.errors:  # what is wrong hides what is used, and what is meant
            self._unused(definitions)
            self.problems.found += check_meaning(Program(definitions), self._where)
        return definitions

    def _where(self, what: str, name: str, *fields: str | int) -> Place:
        """Return where a field of something stands, or what is nearest to it."""
        node, place = getattr(self, f"{what}s").get(name), self.places[what, name]
        for field in fields:
            if isinstance(node, nodes.Mapping) and isinstance(field, str) and field in node.entries:
                node = node.entries[field]
            elif isinstance(node, nodes.Sequence) and isinstance(field, int):
                node = node.items[field]
            else:
                break
            place = node.place
        return place

    def _features(self) -> dict[str, Feature]:
        found: dict[str, Feature] = {}
        quantiles: dict[str, Record] = {}
        for name, node in self.features.items():
            record = None if node is None else self.reader.read("feature", node, f"feature '{name}'")
            if record is not None:
                built = build_features(name, record, self.catalogue, self.problems)
                found.update({feature.name: feature for feature in built})
                if built and record.kind.head == "quantile":
                    quantiles[name] = record
        for name, record in quantiles.items():
            word = record.need("quantile", Word)
            if word.text in found:
                found[name] = build_bands(found[name], found[word.text], record, self.problems)
            elif word.text not in self.features:
                near = did_you_mean(word.text, self.features)
                self.problems.error(word.place, "E043", f"unknown feature '{word.text}'{near}")
        return share_times(found)

    def _segments(self, declared: Mapping[str, Declared], names: frozenset[str]) -> dict[str, Segment]:
        found: dict[str, Segment] = {}
        for name, node in self.segments.items():
            record = None if node is None else self.reader.read("segment", node, f"segment '{name}'")
            built = None if record is None else build_segment(name, record, declared, names, self.problems)
            if built is not None:
                found[name] = built
        check_nesting(found, {name: self.places["segment", name] for name in found}, self.problems)
        return found

    def _moments(self, builder: MomentBuilder) -> dict[str, Moment]:
        records = {
            name: self.reader.read("moment", node, f"moment {shown(name)}") for name, node in self.moments.items()
        }
        built: dict[str, Moment | None] = {}
        waiting = dict(records)
        while waiting:  # those that live during another need to know it, wherever it is written
            ready = [name for name, record in waiting.items() if _host_of(record) not in waiting]
            if not ready:
                first = min(waiting)
                message = f"moment '{first}' lives during itself, directly or through others"
                self.problems.error(self.places["moment", first], "E053", message)
                break
            for name in ready:
                record = waiting.pop(name)
                built[name] = None if record is None else builder.build(record, built, records)
        return {name: moment for name in self.moments if (moment := built.get(name)) is not None}

    def _campaigns(
        self, features: Mapping[str, Declared], segments: frozenset[str], keys: Mapping[str, str | None]
    ) -> dict[str, Campaign]:
        records = {
            name: self.reader.read("campaign", node, f"campaign {shown(name)}") for name, node in self.campaigns.items()
        }
        windows = {name: None if record is None else window_of(record) for name, record in records.items()}
        builder = CampaignBuilder(features, segments, keys, windows, self.catalogue, self.problems)
        built = {name: builder.build(record) for name, record in records.items() if record is not None}
        found = {name: campaign for name, campaign in built.items() if campaign is not None}
        places = {name: self.places["campaign", name] for name in found}
        check_circles(found, places, self.problems)
        check_lineage(found, places, self.problems)
        return found

    def _check_exempt(self, section: Record, campaigns: Mapping[str, Campaign]) -> None:
        """Note campaigns of a class that needs no slot where the policy says which do, and not theirs."""
        named = section.texts("exempt")
        for name, campaign in campaigns.items():
            if named and campaign.exempt and campaign.message_class not in named:
                said = (
                    f"a {campaign.message_class} message needs no slot, and the policy exempts only {', '.join(named)}"
                )
                self.problems.error(self._where("campaign", name, "class"), "E051", said)

    def _policy(self) -> Iterator[tuple[str, Record]]:
        for name in POLICY_SECTIONS:
            node = self.sections.get(name)
            record = None if node is None else self.reader.read(name, node, f"'{name}'")
            if record is None and not any(known.required for known in KINDS[name].fields):
                # Nothing is there, or not even fields, which was noted: then what is left out has its default.
                record = self.reader.read(name, nodes.Mapping(Place(""), {}, {}), f"'{name}'")
            if record is not None:
                yield name, record

    def _unused(self, definitions: Definitions) -> None:
        answered = {name for campaign in definitions.campaigns.values() for name in campaign.when}
        shapes = [moment.shape for moment in definitions.moments.values()]
        answered |= {shape.moment for shape in shapes if isinstance(shape, During)}
        for name in definitions.moments:
            if name not in answered:
                self.problems.warn(self.places["moment", name], "W001", f"no campaign answers moment '{name}'")
        used = set(_used(definitions))
        for name in self.features:
            if name not in used:
                self.problems.warn(self.places["feature", name], "W002", f"nothing uses feature '{name}'")


def _host_of(record: Record | None) -> str | None:
    """Return the moment during which another lives, as it is written."""
    word = None if record is None else record.get("during", Word)
    return None if word is None else word.text


def _asked_unwritten(definitions: Definitions) -> dict[str, Feature]:
    """Return the features that nobody wrote: what functions in conditions and objectives ask for."""
    names = {read.name for condition in _conditions(definitions) for read in condition.reads}
    asked = {
        name: Feature(name, "last_time", ("order.placed",), key=name.removeprefix(BOUGHT), unit="instant")
        for name in sorted(names)
        if name.startswith(BOUGHT)
    }
    if any(campaign.measure.objective == NEW_CATEGORY for campaign in definitions.campaigns.values()):
        first = Feature(FIRST_BOUGHT, "first_time", ("order.placed",), key="category", unit="instant")
        asked[FIRST_BOUGHT] = first
    content = asked_by_content(definitions.features, definitions.moments, definitions.campaigns.values())
    return asked | {feature.name: feature for feature in content}


def _used(definitions: Definitions) -> Iterator[str]:
    yield from (feature.of for feature in definitions.features.values() if feature.of is not None)
    for condition in _conditions(definitions):
        yield from (read.name for read in condition.reads if read.source == "feature")
    for moment in definitions.moments.values():
        if isinstance(moment.shape, Silence):
            yield moment.shape.of
        elif isinstance(moment.shape, Around):
            yield moment.shape.date
    yield from (*definitions.policy.by, *definitions.policy.split_on)


def _conditions(definitions: Definitions) -> Iterator[Condition]:
    yield from (segment.condition for segment in definitions.segments.values())
    owners: tuple[Moment | Campaign, ...] = (*definitions.moments.values(), *definitions.campaigns.values())
    yield from (owner.only_if for owner in owners if owner.only_if is not None)
    rechecks = (campaign.recheck_before_send for campaign in definitions.campaigns.values())
    yield from (recheck for recheck in rechecks if recheck is not None)
    for offer in (campaign.offer for campaign in definitions.campaigns.values() if campaign.offer is not None):
        yield from (*offer.only_if.values(), *offer.never_if.values())


# --- the version -------------------------------------------------------------------------------------------------


def _version(files: Iterable[nodes.Node | None]) -> str:
    """Return a hash of what is said, whatever the files, the order and the formatting."""
    said: set[str] = set()
    for node in files:
        for section, content in node.entries.items() if isinstance(node, nodes.Mapping) else ():
            said.update(json.dumps([section, part], sort_keys=True) for part in _parts(_plain(content)))
    return hashlib.sha256("\n".join(sorted(said)).encode()).hexdigest()[:12]


def _parts(plain: Any) -> list[Any]:
    if isinstance(plain, dict):
        return [[name, part] for name, part in plain.items()]
    return plain if isinstance(plain, list) else [plain]


def _plain(node: nodes.Node) -> Any:
    if isinstance(node, nodes.Scalar):
        return node.text
    if isinstance(node, nodes.Sequence):
        return [_plain(item) for item in node]
    return {name: _plain(child) for name, child in node.entries.items()}

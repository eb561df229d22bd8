"""Sub-personas as a change of definitions that a person merges: segments, the split, and a place for what comes next.

The campaign goes on for those with whom it works best. For those with whom it works somewhat a sibling goes on with the
same template until there is a better one; for those with whom it does not it stops, and a sibling waits for the
template of the campaign that they still need. Each says what it grew from, so that learning goes on where it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePath

import yaml

from orchestrator.arbitration.campaign import Campaign
from orchestrator.definitions.amend import Edit, Source, applied, entries, entry
from orchestrator.definitions.catalogue import Catalogue
from orchestrator.definitions.expressions import MAX_LENGTH
from orchestrator.definitions.load import TESTS, load
from orchestrator.definitions.nodes import Problem
from orchestrator.learning.cuts import Cut
from orchestrator.learning.personas import EXTREMELY, NOT, SOMEWHAT, Found, Persona
from orchestrator.program import Definitions

OWN_FILE = "sub_personas.yaml"
"""Where segments and campaigns go if the folder has no section for them that is written line by line."""

FILL_IN = "fill_in_"
"""How the template of a campaign begins that somebody has yet to write."""

_SUFFIXES = {(EXTREMELY, False): "extremely", (SOMEWHAT, False): "somewhat", (NOT, False): "others"}
_HARMED = "harmed"
_LONGEST = 64
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Proposal:
    """The texts of a folder after a change by path, what lint finds in them that was not there before, and notes.

    Notes are what a reader of the patch has to think of, one sentence each.
    """

    texts: Mapping[str, str]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    campaigns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Group:
    """The sub-personas of a campaign that are treated alike from now on, with a campaign and a segment of their own."""

    name: str
    segment: str
    label: str
    harmed: bool
    leaves: tuple[Persona, ...]
    condition: str


def propose(
    texts: Mapping[str, str], definitions: Definitions, found: Found, *, until: int, catalogue: Catalogue
) -> Proposal:
    """Return a folder's texts with the sub-personas that were found, measured until an instant, in milliseconds."""
    change = _Change(texts, definitions, until)
    for campaign, persona in sorted(found.campaigns.items()):
        if persona.parts:
            change.split(campaign, persona)
    after = change.texts()
    before = {(problem.code, problem.message) for problem in load(texts, catalogue)[1]}
    problems = [one for one in load(after, catalogue)[1] if (one.code, one.message) not in before]
    return Proposal(after, tuple(problems), tuple(change.notes), tuple(change.campaigns))


class _Change:
    """Edits to the files of one folder, gathered campaign by campaign and applied together."""

    def __init__(self, texts: Mapping[str, str], definitions: Definitions, until: int) -> None:
        self.before = texts
        self.definitions = definitions
        self.until = (_EPOCH + timedelta(milliseconds=until)).date()
        self.sources = {path: Source(text) for path, text in sorted(texts.items()) if not path.endswith(TESTS)}
        self.edits: dict[str, list[Edit]] = {path: [] for path in self.sources}
        self.own: dict[str, list[list[str]]] = {"segments": [], "campaigns": []}
        self.segments: list[list[str]] = []
        self.taken = {*definitions.segments, *definitions.campaigns}
        self.by_condition = {segment.condition.text: name for name, segment in definitions.segments.items()}
        self.notes: list[str] = []
        self.campaigns: list[str] = []

    def split(self, name: str, persona: Persona) -> None:
        """Split one campaign by the sub-personas found in it."""
        campaign = self.definitions.campaigns.get(name)
        if campaign is None:
            self.notes.append(f"'{name}' is not defined here any more, so it is left alone")
            return
        path, source, item = next(
            (path, source, item)
            for path, source in self.sources.items()
            if (item := source.item("campaigns", "campaign", name)) is not None
        )
        groups = self._groups(name, persona, item)
        if len(groups) < 2:
            self.notes.append(f"'{name}' works differently, but is {persona.leaves[0].label} either way: left alone")
            return
        long = [group.name for group in groups if len(group.condition) > MAX_LENGTH]
        if long:
            self.notes.append(f"'{name}': the condition of {', '.join(long)} is too long to be read: left alone")
            return
        new = [group for group in groups if group.condition not in self.by_condition]
        self.by_condition |= {group.condition: group.segment for group in new}
        if new:
            self.segments += self._segments(name, groups, new)
        best, *others = groups
        beside = f"; others: {_said(others[0])}" if len(others) == 1 else ""
        self._narrow(path, item, best.segment, _said(best) + beside)
        self._place(path, source, item, [self._sibling(campaign, source, item, group) for group in others])
        self.campaigns.append(name)
        self._note(campaign, others)

    def texts(self) -> dict[str, str]:
        """Return all texts after the change."""
        self._place_segments()
        after = dict(self.before)
        for path, edits in self.edits.items():
            after[path] = applied(self.before[path], edits)
        written = [
            f"{section}:\n" + "\n\n".join("\n".join(f"  {line}" if line else "" for line in block) for block in blocks)
            for section, blocks in self.own.items()
            if blocks
        ]
        if written:
            folder = PurePath(next(iter(self.sources))).parent
            after[str(folder / self._free_file(folder))] = "\n\n".join(written) + "\n"
        return after

    # --- who ---

    def _groups(self, name: str, persona: Persona, item: yaml.MappingNode) -> list[_Group]:
        """Return the groups from the one with whom it works best."""
        found = []
        audience = self._audience(item)
        for kind in (*_SUFFIXES, (NOT, True)):
            leaves = tuple(leaf for leaf in persona.leaves if (leaf.label, leaf.harmed) == kind)
            if leaves:
                paths = [_narrowest(path) for path in _covering(persona, frozenset(leaves))]
                each = [" and ".join(map(str, path)) for path in paths]
                either = (
                    each[0] if len(each) == 1 else " or ".join(f"({one})" if " and " in one else one for one in each)
                )
                if audience:
                    either = f"{audience} and {f'({either})' if len(each) > 1 else either}"
                named = self._free(f"{name}_{_SUFFIXES.get(kind, _HARMED)}")
                segment = self.by_condition.get(either, named)
                found.append(_Group(named, segment, kind[0], kind[1], leaves, either))
        return found

    def _audience(self, item: yaml.MappingNode) -> str:
        """Return the condition for who the campaign is for today, empty where it is for everybody."""
        node = entry(item, "audience")
        names = (
            [one.value for one in node.value] if isinstance(node, yaml.SequenceNode) else [node.value] if node else []
        )
        either = " or ".join(f"in_segment('{name}')" for name in names)
        return f"({either})" if len(names) > 1 else either

    def _free(self, wanted: str) -> str:
        """Return a name that nothing has yet, the wanted one if it can be."""
        wanted = wanted[: _LONGEST - len(FILL_IN) - 3]
        names = (wanted, *(f"{wanted}_{number}" for number in range(2, 100)))
        name = next(name for name in names if name not in self.taken)
        self.taken.add(name)
        return name

    def _free_file(self, folder: PurePath) -> str:
        names = (OWN_FILE, *(f"{number}_{OWN_FILE}" for number in range(2, 100)))
        return next(name for name in names if str(folder / name) not in self.before)

    # --- what is written ---

    def _segments(self, name: str, groups: Sequence[_Group], new: Sequence[_Group]) -> list[list[str]]:
        """Return the lines of the segments that are new, the evidence for all groups before the first."""
        evidence = [
            f"# Sub-personas of {name} in windows until {self.until}: margin per window beyond randomised control, its",
            "# always-valid 95 % interval, and the number of windows that measured it.",
        ]
        leaves = [leaf for group in groups for leaf in group.leaves]
        evidence += [
            f"#   {_path(leaf)}: {_worth(leaf)}: {leaf.label}{', it does harm' * leaf.harmed}" for leaf in leaves
        ]
        blocks = [
            [
                f"{group.segment}:",
                f'  say: "{name} {"does them harm" if group.harmed else f"is {group.label} with them"}"',
                f'  is: "{group.condition}"',
            ]
            for group in new
        ]
        return [[*evidence, *blocks[0]], *blocks[1:]]

    def _narrow(self, path: str, item: yaml.MappingNode, segment: str, comment: str) -> None:
        """Let a campaign be for one segment only."""
        source, audience = self.sources[path], entry(item, "audience")
        if audience is not None:
            self.edits[path].append(source.replaced(audience, segment))
        else:
            self.edits[path].append(source.added(item, "campaign", [f"audience: {segment}  # {comment}"]))

    def _sibling(self, campaign: Campaign, source: Source, item: yaml.MappingNode, group: _Group) -> list[str]:
        """Return the lines of a campaign for another group, which are those of the campaign where nothing differs."""
        name, audience, grew_from = entry(item, "campaign"), entry(item, "audience"), entry(item, "grew_from")
        assert name is not None
        edits = [source.replaced(name, group.name)]
        new = []
        for field, node, value in (("grew_from", grew_from, campaign.name), ("audience", audience, group.segment)):
            if node is None:
                new.append(f"{field}: {value}")
            else:
                edits.append(source.replaced(node, value))
        if new:
            edits.append(source.added(item, "campaign", new))
        said = f"# With whom {campaign.name} is {SOMEWHAT}: it goes on until there is a better one for them."
        if group.label != SOMEWHAT:
            for number, template in enumerate(entries(item, "template"), 1):
                written = f"{FILL_IN}{group.name}{f'_{number}' if campaign.series else ''}"
                edits.append(source.replaced(template, written[:_LONGEST]))
            why = f"{campaign.name} does harm" if group.harmed else f"{campaign.name} is {NOT}"
            said = f"# With whom {why}: it stops. Fill in the template of the campaign that they still need."
        return [said, *source.copied(item, edits)]

    def _place(self, path: str, source: Source, item: yaml.MappingNode, siblings: list[list[str]]) -> None:
        """Put siblings behind their campaign, or into a file of their own where there is no room for lines."""
        listed = source.block("campaigns")
        if listed is None:
            self.own["campaigns"] += siblings
            return
        column = source.dash(item) - (source.text.rfind("\n", 0, source.dash(item)) + 1)
        self.edits[path].append(source.appended(item, column, siblings, apart=source.apart(listed)))

    def _place_segments(self) -> None:
        if not self.segments:
            return
        for path, source in self.sources.items():
            section = source.block("segments")
            if isinstance(section, yaml.MappingNode):
                column = section.start_mark.column
                self.edits[path].append(source.appended(section, column, self.segments, apart=source.apart(section)))
                return
        self.own["segments"] += self.segments

    def _note(self, campaign: Campaign, others: Sequence[_Group]) -> None:
        """Note what a reader of the patch has to think of."""
        for group in others:
            if group.label != SOMEWHAT:
                self.notes.append(f"'{group.name}' waits for a template: fill it in, or leave the campaign out")
        naming = sorted(
            name
            for name, other in self.definitions.campaigns.items()
            if name != campaign.name
            and campaign.name in (*other.leads_to, *(exclusion.after for exclusion in other.exclusions), _asked(other))
        )
        if naming:
            names = ", ".join(group.name for group in others)
            self.notes.append(f"{', '.join(naming)} name '{campaign.name}': say whether they mean {names} as well")
        if campaign.cap is not None:
            self.notes.append(
                f"the cap of '{campaign.name}' now holds for each of its siblings: divide it between them"
            )


def _covering(persona: Persona, leaves: frozenset[Persona]) -> list[tuple[Cut, ...]]:
    """Return the paths of the largest parts that hold nothing but some leaves."""
    if leaves.issuperset(persona.leaves):
        return [persona.path]
    return [path for part in persona.parts for path in _covering(part, leaves)]


def _narrowest(path: tuple[Cut, ...]) -> tuple[Cut, ...]:
    """Return a path without the cuts that a later one on the same feature makes needless."""
    return tuple(
        cut
        for place, cut in enumerate(path)
        if not any(
            (later.feature, later.operator) == (cut.feature, cut.operator)
            and cut.operator in (">=", "<")
            and (cut.unknown or not later.unknown)
            for later in path[place + 1 :]
        )
    )


def _asked(campaign: Campaign) -> str:
    return "" if campaign.after is None else campaign.after.campaign


def _path(persona: Persona) -> str:
    return " and ".join(map(str, _narrowest(persona.path)))


def _worth(persona: Persona) -> str:
    worth = persona.worth
    return f"{worth.mean / 100:+.2f} [{worth.low / 100:.2f}, {worth.high / 100:.2f}], n = {persona.windows:,}"


def _said(group: _Group) -> str:
    return " and ".join(_worth(leaf) for leaf in group.leaves)

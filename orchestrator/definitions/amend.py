"""Changes to the text of definitions at the places of its nodes: everything else stays as it was written.

Whoever wrote a file finds their comments, quotes and alignment again, and a reviewer sees a handful of lines.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import yaml


@dataclass(frozen=True, slots=True)
class Edit:
    """Text that takes the place of what stands between two offsets; an insertion where they are equal."""

    start: int
    end: int
    text: str


def applied(text: str, edits: Iterable[Edit], offset: int = 0) -> str:
    """Return a text, which begins at an offset of its file, after edits that do not overlap."""
    parts, at = [], 0
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        start, end = edit.start - offset, edit.end - offset
        assert start >= at, "edits overlap"
        parts += [text[at:start], edit.text]
        at = end
    return "".join((*parts, text[at:]))


def entry(node: yaml.Node, name: str) -> yaml.Node | None:
    """Return what stands under a name in a mapping, None where it has no such name."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((value for key, value in pairs if key.value == name), None)


def entries(node: yaml.Node, name: str) -> Iterator[yaml.ScalarNode]:
    """Yield the plain values under a name, however deep down."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == name and isinstance(value, yaml.ScalarNode):
                yield value
            else:
                yield from entries(value, name)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from entries(item, name)


class Source:
    """One file's text and what stands where in it; it is known to be a document of definitions."""

    def __init__(self, text: str) -> None:
        self.text = text
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        assert root is not None, "an empty file was refused before"
        self.root = root
        self.newline = "\r\n" if "\r\n" in text else "\n"

    def block(self, section: str) -> yaml.Node | None:
        """Return what stands in a section that is written line by line; None where it is in braces, or not there."""
        node = entry(self.root, section)
        return node if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value else None

    def item(self, section: str, field: str, name: str) -> yaml.MappingNode | None:
        """Return the item of a listed section of which a field has a value, None where there is none."""
        listed = entry(self.root, section)
        for node in listed.value if isinstance(listed, yaml.SequenceNode) else ():
            named = entry(node, field)
            if isinstance(node, yaml.MappingNode) and isinstance(named, yaml.ScalarNode) and named.value == name:
                return node
        return None

    # --- places ---

    def end(self, node: yaml.Node) -> int:
        """Return the offset at which the text of a node ends."""
        if isinstance(node, yaml.CollectionNode) and not node.flow_style:
            last = node.value[-1]
            return self.end(last[1] if isinstance(last, tuple) else last)
        start, end = node.start_mark.index, node.end_mark.index
        return start + len(self.text[start:end].rstrip())

    def line_end(self, offset: int) -> int:
        """Return the offset at which the line of an offset ends, before its line break."""
        found = self.text.find("\n", offset)
        end = len(self.text) if found < 0 else found
        return end - 1 if self.text[offset:end].endswith("\r") else end

    def dash(self, item: yaml.Node) -> int:
        """Return the offset of the dash of an item of a block list, which may stand on a line before it."""
        line = self.text.rfind("\n", 0, item.start_mark.index) + 1
        while not self.text[line : item.start_mark.index].lstrip().startswith("-"):
            line = self.text.rfind("\n", 0, line - 1) + 1
        return line + self.text[line:].index("-")

    # --- changes ---

    def replaced(self, node: yaml.Node, text: str) -> Edit:
        """Return the edit that writes another value."""
        return Edit(node.start_mark.index, self.end(node), text)

    def added(self, mapping: yaml.MappingNode, after: str, lines: Sequence[str]) -> Edit:
        """Return the edit that adds fields after one that has a plain value, in the style of the mapping.

        Comments behind the fields are kept only where each has a line of its own.
        """
        value = entry(mapping, after)
        assert value is not None
        if mapping.flow_style:
            at = self.end(value)
            return Edit(at, at, "".join(f", {line.partition('  # ')[0]}" for line in lines))
        at = self.line_end(self.end(value))
        indent = " " * mapping.start_mark.column
        return Edit(at, at, "".join(f"{self.newline}{indent}{line}" for line in lines))

    def appended(self, after: yaml.Node, column: int, blocks: Sequence[Sequence[str]], *, apart: bool) -> Edit:
        """Return the edit that adds blocks of lines behind a node, `apart` with an empty line before each."""
        at = self.line_end(self.end(after))
        text = ""
        for block in blocks:
            lines = [" " * column + line if line else "" for line in block]
            text += "".join(f"{self.newline}{line}" for line in ([""] * apart + lines))
        return Edit(at, at, text)

    def apart(self, section: yaml.Node) -> bool:
        """Return whether the entries of a block have empty lines between them; a single one has."""
        starts = [one[0] if isinstance(one, tuple) else one for one in section.value]
        if len(starts) < 2:
            return True
        last = section.value[-2]
        between = self.text[self.end(last[1] if isinstance(last, tuple) else last) : starts[-1].start_mark.index]
        return any(not line.strip() for line in between.splitlines()[1:-1])

    def copied(self, item: yaml.MappingNode, edits: Iterable[Edit]) -> list[str]:
        """Return the lines of an item of a list after edits, with its dash, as if it stood at the margin."""
        if self._inside_flow(item):
            start, end = item.start_mark.index, self.end(item)
            return ("- " + applied(self.text[start:end], edits, start)).splitlines()
        start, end = self.dash(item), self.line_end(self.end(item))
        column = start - (self.text.rfind("\n", 0, start) + 1)
        first, *others = applied(self.text[start:end], edits, start).splitlines()
        return [first, *(line[column:] if not line[:column].strip() else line for line in others)]

    def _inside_flow(self, item: yaml.Node) -> bool:
        sections = self.root.value if isinstance(self.root, yaml.MappingNode) else ()
        return any(
            isinstance(section, yaml.SequenceNode) and section.flow_style and item in section.value
            for _, section in sections
        )


def unified_diff(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Return what differs between texts by path as a patch that `git apply` and `patch -p1` read."""
    found: list[str] = []
    for path in sorted({*before, *after}):
        if before.get(path) != after.get(path):
            old, new = (texts.get(path, "").splitlines(keepends=True) for texts in (before, after))
            origin = f"a/{path}" if path in before else "/dev/null"
            for line in difflib.unified_diff(old, new, origin, f"b/{path}"):
                found += [line] if line.endswith("\n") else [line, "\n\\ No newline at end of file\n"]
    return "".join(found)

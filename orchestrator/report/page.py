"""The report's page: one file with its own style, for light and dark screens and for paper."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

COLORS = 8
"""Campaigns that have a colour of their own; further ones share them."""

_INK = {
    "light": (
        "--paper: #f6f7f9; --card: #fff; --ink: #1c2430; --soft: #5b6675; --faint: #e3e7ec; --rail: #d5dbe2; "
        "--accent: #2f6fde; --quiet: #9aa5b3; --warn: #b8432f; --good: #1f7a4d;"
    ),
    "dark": (
        "--paper: #12161c; --card: #1a2028; --ink: #e6eaf0; --soft: #9ba7b6; --faint: #2a323d; --rail: #333d49; "
        "--accent: #6ea1ff; --quiet: #6d7887; --warn: #ff8d78; --good: #6fd3a0;"
    ),
}
# Told apart also by those who see red and green alike.
_CAMPAIGNS = {
    "light": ("#2f6fde", "#e0812f", "#17998a", "#b1458f", "#8a9721", "#7a5bd0", "#c8463c", "#5b7083"),
    "dark": ("#6ea1ff", "#f2a35e", "#4cc7b6", "#dd83c0", "#bcca55", "#a990f2", "#f07f73", "#93a8bb"),
}


def _palette(mode: str) -> str:
    return _INK[mode] + "".join(f" --c{number}: {color};" for number, color in enumerate(_CAMPAIGNS[mode]))


STYLE = f"""
:root {{ color-scheme: light dark; --shadow: 0 1px 2px #1c243014, 0 4px 16px #1c24300a; {_palette("light")} }}
@media (prefers-color-scheme: dark) {{ :root {{ --shadow: none; {_palette("dark")} }} }}
@media print {{ :root {{ {_palette("light")} --paper: #fff; --shadow: none; }} }}
"""
STYLE += """
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 1080px; margin: 0 auto; padding: 48px 24px 72px; }
header { margin-bottom: 32px; }
h1 { font-size: 34px; line-height: 1.15; letter-spacing: -.02em; margin: 0 0 8px; }
h2 { font-size: 21px; letter-spacing: -.01em; margin: 0 0 6px; }
h3 { font-size: 15px; margin: 28px 0 8px; }
p { margin: 0 0 14px; max-width: 76ch; }
.lead { color: var(--soft); font-size: 18px; }
.soft, figcaption { color: var(--soft); }
section, .tile { background: var(--card); border-radius: 14px; box-shadow: var(--shadow); }
section { padding: 26px 28px; margin: 0 0 22px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 14px; margin: 0 0 22px; }
.tile { padding: 16px 18px; }
.tile b { display: block; font-size: 27px; line-height: 1.2; letter-spacing: -.02em; }
.tile span { color: var(--soft); font-size: 14px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14.5px; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--soft); }
thead th { vertical-align: bottom; line-height: 1.25; }
th, td { padding: 7px 14px 7px 0; border-bottom: 1px solid var(--faint); vertical-align: top; }
tr:last-child td { border-bottom: 0; }
.number { text-align: right; } td.number { white-space: nowrap; }
td:first-child { min-width: 11em; }
.facts { columns: 2; column-gap: 48px; }
.facts div {
  display: flex; justify-content: space-between; gap: 16px; break-inside: avoid;
  padding: 6px 0; border-bottom: 1px solid var(--faint); font-size: 15px;
}
.facts dt { color: var(--soft); } .facts dd { margin: 0; text-align: right; font-variant-numeric: tabular-nums; }
dl { margin: 0; }
.legend { display: flex; flex-wrap: wrap; gap: 6px 20px; margin: 6px 0 12px; padding: 0; }
.legend { list-style: none; font-size: 14px; }
.legend li { display: flex; align-items: center; gap: 7px; }
.legend svg { width: 18px; height: 14px; flex: none; }
.plain { border-left: 3px solid var(--accent); padding: 2px 0 2px 16px; }
.alert { border-color: var(--warn); }
details { margin-top: 14px; } summary { cursor: pointer; color: var(--soft); font-size: 14.5px; }
section > .scroll + * { margin-top: 16px; }
figure { margin: 0 0 16px; } figcaption { font-size: 14px; margin-top: 6px; }
.chart { display: block; width: 100%; min-width: 660px; height: auto; overflow: visible; font-size: 13px; }
.chart text { fill: var(--ink); } .chart .axis, .chart .note { fill: var(--soft); font-size: 12px; }
.chart .value { fill: var(--soft); font-variant-numeric: tabular-nums; } .chart .strong { font-weight: 600; }
.guide { stroke: var(--faint); stroke-width: 1; } .rail { stroke: var(--rail); stroke-width: 1; }
.zero { stroke: var(--ink); stroke-width: 1.25; stroke-dasharray: 4 3; }
.quiet { fill: var(--quiet); } .accent { fill: var(--accent); } .bad { fill: var(--warn); }
.interval { fill-opacity: .3; } .mean { stroke: var(--card); stroke-width: 1.5; }
.control-arm { fill: var(--quiet); }
.control { fill-opacity: .14; stroke-width: 1.3; stroke-dasharray: 3 2; }
.holdout { fill: none; stroke: var(--soft); stroke-width: 1.5; }
.undone { fill: var(--card); stroke: var(--warn); stroke-width: 2; }
.end-expired { fill: var(--quiet); } .end-cancelled { fill: var(--good); } .end-unmet { fill: var(--soft); }
.chart .flow { fill: none; stroke-opacity: .4; } .chart .flow:hover { stroke-opacity: .75; }
.chart .course { fill: none; stroke-width: 2; }
.chart .imagined { stroke: var(--accent); stroke-opacity: .8; }
.chart .ground { stroke: var(--card); stroke-opacity: 1; }
.chart .untaken { stroke: var(--accent); stroke-opacity: .8; stroke-dasharray: 5 4; }
.chart .on { paint-order: stroke; stroke: var(--card); stroke-width: 3px; }
footer { color: var(--soft); font-size: 14px; padding: 0 4px; }
@media (max-width: 700px) { main { padding: 28px 14px; } section { padding: 20px 16px; } .facts { columns: 1; } }
@media print {
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  body { font-size: 10.5pt; } main { max-width: none; padding: 0; }
  section, .tile { border: 1px solid #ddd; break-inside: avoid; } section { padding: 18px 20px; }
  .tiles { grid-template-columns: repeat(6, 1fr); gap: 8px; } .tile { padding: 10px 12px; } .tile b { font-size: 16pt; }
  .chart { min-width: 0; } .scroll { overflow: visible; } table { font-size: 9pt; } th, td { padding-right: 9px; }
}
"""
# A campaign's colour serves as fill and, for control and for the bands of a path, as outline.
STYLE += "".join(
    f".c{n} {{ fill: var(--c{n}); }} .c{n}:is(.control, .flow, .course) {{ stroke: var(--c{n}); }}\n"
    for n in range(COLORS)
)


def page(title: str, *parts: str) -> str:
    """Return the whole file; it asks for nothing from anywhere else."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def section(title: str, *parts: str) -> str:
    """Return a card with a heading."""
    return f"<section>\n<h2>{escape(title)}</h2>\n{''.join(parts)}\n</section>"


def paragraph(text: str, class_: str = "") -> str:
    """Return a paragraph of plain text."""
    return f'<p class="{class_}">{escape(text)}</p>' if class_ else f"<p>{escape(text)}</p>"


def figure(drawing: str, caption: str = "") -> str:
    """Return a drawing that scrolls where the screen is narrow, with its caption."""
    said = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><div class="scroll">{drawing}</div>{said}</figure>'


def tiles(facts: Iterable[tuple[str, str]]) -> str:
    """Return large figures, each with what it counts."""
    cells = (f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for name, value in facts)
    return f'<div class="tiles">{"".join(cells)}</div>'


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Return names and values in two columns."""
    rows = (f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in pairs)
    return f'<dl class="facts">{"".join(rows)}</dl>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose columns after the first hold numbers."""

    def cells(name: str, row: Sequence[str]) -> str:
        kinds = ("", *(' class="number"' for _ in row[1:]))
        return "".join(f"<{name}{kind}>{escape(cell)}</{name}>" for kind, cell in zip(kinds, row, strict=True))

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{cells("th", head)}</tr></thead><tbody>{body}</tbody></table></div>'


def details(summary: str, content: str) -> str:
    """Return content that opens on demand."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def legend(entries: Iterable[tuple[str, str]]) -> str:
    """Return what shapes mean, each a piece of SVG on a field of 18 by 14 and its name."""
    items = (
        f'<li><svg viewBox="0 0 18 14" aria-hidden="true">{shape}</svg>{escape(name)}</li>' for shape, name in entries
    )
    return f'<ul class="legend">{"".join(items)}</ul>'

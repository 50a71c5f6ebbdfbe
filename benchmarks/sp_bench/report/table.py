"""A table as one object, and its renderings: Markdown, the terminal, HTML."""

from __future__ import annotations

import io
import itertools
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import rich.table
from markupsafe import Markup, escape
from rich.console import Console
from rich.measure import Measurement
from rich.text import Text

Align = Literal["left", "right"]
LEFT: Align = "left"
RIGHT: Align = "right"
_WIDEST = 10_000  # characters
_MOST_ON_PHONE = 5  # columns


class Column(NamedTuple):
    """Heading and alignment of a column.

    Attributes:
        name: heading; empty for none.
        align: ``left``, or ``right`` (default) for numbers.
        group: heading above the names of neighbouring columns; empty (default) for none.
    """

    name: str
    align: Align = RIGHT
    group: str = ""


class Cell(NamedTuple):
    """A cell with more than plain text.

    Attributes:
        text: content.
        bold: whether ``text`` is in bold type.
        remark: text that follows, in normal type; in the terminal and in HTML the remarks of a
            column have a column of their own.
    """

    text: str
    bold: bool = False
    remark: str = ""


@dataclass(frozen=True)
class Table:
    """Columns and rows, with one method per output format.

    Attributes:
        columns: headings, from left to right; the first column names the rows.
        rows: cells as `Cell` or text, as many as columns.
        title: heading of the table; empty (default) for none.
        note: how to read it; empty (default) for none.

    >>> table = Table([Column("task", LEFT), Column("SP")], [["kNN", Cell("+0.3", True, "better")]])
    >>> print(table.to_markdown(), end="")
    | task | SP |
    |---|--:|
    | kNN | **+0.3** better |
    >>> print(table.to_html())
    <div class="wide"><table>
    <thead>
    <tr><th scope="col">task</th><th scope="col">SP</th><td></td></tr>
    </thead>
    <tbody>
    <tr><th scope="row">kNN</th><td class="bold">+0.3</td><td class="left">better</td></tr>
    </tbody>
    </table></div>
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell | str]]
    title: str = ""
    note: str = ""

    @property
    def cells(self) -> list[list[Cell]]:
        """The rows with each cell as a `Cell`."""
        return [
            [cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in self.rows
        ]

    def to_markdown(self) -> str:
        """Lines of a Markdown table, each ending with a newline, without title and note."""
        names = [": ".join(filter(None, (column.group, column.name))) for column in self.columns]
        rule = ["---" if column.align == LEFT else "--:" for column in self.columns]
        rows = [_markdown_row(map(_markdown_cell, row)) for row in self.cells]
        return "".join([_markdown_row(names), f"|{'|'.join(rule)}|\n", *rows])

    def to_console(self) -> rich.table.Table:
        """A table for `rich.console.Console.print`, with title and note."""
        table = rich.table.Table(
            title=self.title or None,
            caption=self.note or None,
            caption_justify="left",
            box=None,
            pad_edge=False,
        )
        columns, rows = self._with_remark_columns()
        for column in columns:
            name = Text(" ".join(filter(None, (column.group, column.name))))
            table.add_column(name, justify=column.align, no_wrap=True)
        for row in rows:
            # Text, not str: square brackets in a label are no markup.
            table.add_row(*(Text(cell.text, "bold" if cell.bold else "") for cell in row))
        return table

    def print_to(self, console: Console) -> None:
        """Print the table in its full width: a pipe or a narrow terminal cuts no number off."""
        table = self.to_console()
        probe = console.options.update(max_width=_WIDEST)
        natural = Measurement.get(console, probe, table).maximum
        natural = max(natural, 40)
        table.caption = textwrap.fill(self.note, min(natural, max(console.width, 40))) or None
        wide = Console(width=natural, force_terminal=True, file=io.StringIO())
        with wide.capture() as drawn:
            wide.print(table)
        # rich limits what it prints to the width of the console, unless it is text.
        text = Text.from_ansi(drawn.get().rstrip("\n"))
        console.print(text, soft_wrap=True, highlight=False)

    def to_html(self, css_class: str = "") -> Markup:
        """A ``<table>`` in a box that scrolls, with all text escaped, without title and note.

        Args:
            css_class: class of the ``<table>``; empty (default) for none.
        """
        columns, rows = self._with_remark_columns()
        groups = [column.group for column in columns]
        # CSS classes of a column's cells; the first column of a group has a line at its left.
        classes = [
            ("left" * (column.align == LEFT), "first" * (column.group not in ("", before)))
            for column, before in zip(columns, ["", *groups], strict=False)
        ]
        head, body = [], []
        if any(groups):
            head.append(_group_headings(groups))
        if any(column.name for column in columns):
            names = zip(columns, classes, strict=True)
            head.append(
                [_tag("th", c.name, first, extra=' scope="col"') for c, (_, first) in names]
            )
        for first_cell, *cells in rows:
            styled = zip(cells, classes[1:], strict=True)
            body.append([_tag("th", first_cell.text, extra=' scope="row"')])
            body[-1] += [_tag("td", cell.text, *css, "bold" * cell.bold) for cell, css in styled]
        parts = [_element("thead", map(_line, head))] if head else []
        parts.append(_element("tbody", map(_line, body)))
        attributes = ""
        if len(columns) > _MOST_ON_PHONE and not any(groups):
            css_class = f"{css_class} stacked".strip()
            attributes = f' style="--values: {len(columns) - 1}"'
        if css_class:
            attributes = f' class="{css_class}"{attributes}'
        table = _element("table", parts, attributes)
        return Markup(f'<div class="wide">{table.rstrip()}</div>')

    def _with_remark_columns(self) -> tuple[list[Column], list[list[Cell]]]:
        """Columns and rows with the remarks of a column, if it has any, in a column after it."""
        cells = self.cells
        columns: list[Column] = []
        rows: list[list[Cell]] = [[] for _ in cells]
        for i, column in enumerate(self.columns):
            columns.append(column)
            has_remarks = any(row[i].remark for row in cells)
            if has_remarks:
                columns.append(Column("", LEFT, column.group))
            for row, source in zip(rows, cells, strict=True):
                row.append(source[i])
                if has_remarks:
                    row.append(Cell(source[i].remark))
        return columns, rows


def _markdown_row(cells: Iterable[str]) -> str:
    escaped = (cell.replace("|", r"\|").replace("\n", " ") for cell in cells)
    return f"| {' | '.join(escaped)} |\n"


def _markdown_cell(cell: Cell) -> str:
    text = f"**{cell.text}**" if cell.bold else cell.text
    return f"{text} {cell.remark}" if cell.remark else text


def _group_headings(groups: Sequence[str]) -> list[str]:
    spans = [(group, len(list(same))) for group, same in itertools.groupby(groups)]
    extra = ' colspan="{}" scope="colgroup"'
    return [
        _tag("th", group, "group", extra=extra.format(span)) if group else "<td></td>" * span
        for group, span in spans
    ]


def _tag(name: str, text: str, *classes: str, extra: str = "") -> str:
    """A cell with its text escaped, of the classes that are not empty; no heading without text."""
    if name == "th" and not text:
        return "<td></td>"
    names = " ".join(filter(None, classes))
    css = f' class="{names}"' if names else ""
    return f"<{name}{css}{extra}>{escape(text)}</{name}>"


def _line(cells: Sequence[str]) -> str:
    return f"<tr>{''.join(cells)}</tr>\n"


def _element(name: str, parts: Iterable[str], extra: str = "") -> str:
    return f"<{name}{extra}>\n{''.join(parts)}</{name}>\n"

"""Pages of help: `--help` shows the common flags on a screen, `--help PAGE` the rest, `--help all` every flag."""

import argparse
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from common.errors import RequestError
from common.messages import did_you_mean

NARROWEST, WIDEST = 20, 100  # columns that a text is laid out for; longer lines are hard to read
FLAGS_WIDTH = 25  # columns of the flags before their texts
ALL = "all"


def columns() -> int:
    """The width of the terminal, or COLUMNS where it is set, within readable limits; 80 where there is neither."""
    given = os.environ.get("COLUMNS", "")
    width = int(given) if given.isdecimal() and len(given) < 9 else 0
    return min(max(width or shutil.get_terminal_size().columns, NARROWEST), WIDEST)


class HelpFormatter(argparse.HelpFormatter):
    """Flags with their values once, as in `-b, --beta W ...`, beside their texts."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=FLAGS_WIDTH, width=columns() - 2)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        names = ", ".join(action.option_strings)
        if isinstance(action, argparse.BooleanOptionalAction):
            names = f"--[no-]{action.option_strings[0][2:]}"
        values = "" if action.nargs == 0 else self._format_args(action, action.dest.upper())
        return f"{names} {values}".rstrip()

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        (value,) = self._metavar_formatter(action, default_metavar)(1)
        if getattr(action, "shown_as_one", False):  # it takes several values, but mostly gets one
            return value
        return {"*": f"[{value} ...]", "+": f"{value} ...", "?": f"[{value}]"}.get(str(action.nargs), value)


@dataclass(frozen=True)
class OtherPages:
    """Pages beside those of a parser's groups, such as one for each method.

    Attributes:
        kind: what they are named by, in capitals.
        summary: what they hold, in a line.
        names: those that exist, with aliases.
        text_of: the text of one; None for an unknown name.
    """

    kind: str
    summary: str
    names: Sequence[str]
    text_of: Callable[[str], str | None]


class PagedParser(argparse.ArgumentParser):
    """A parser with the common flags on the first page of its help, and groups of further flags on pages with names.

    Args:
        examples: command lines that the first page ends with.
    """

    def __init__(self, description: str | None, examples: Sequence[str] = ()):
        # Abbreviations would turn a mistyped flag into another one in silence.
        super().__init__(description=description, allow_abbrev=False, add_help=False, formatter_class=HelpFormatter)
        self.examples = examples
        self._other_pages: OtherPages | None = None
        self._page_of: dict[argparse._ArgumentGroup, str] = {}
        self._further: set[argparse._ArgumentGroup] = set()
        self._summaries: dict[str, str] = {}
        self._help = self.add_argument(
            "-h", "--help", nargs=0, action=_ShowPages, default=argparse.SUPPRESS, help="show this text and exit"
        )

    def group(self, title: str, page: str = ALL) -> "argparse._ArgumentGroup":
        """The group of the first page with this title, which is made where it is missing; it is on `page` too."""
        for group in self._action_groups:
            if group.title == title:
                return group
        group = self.add_argument_group(title)
        self._page_of[group] = page
        return group

    def further_group(self, title: str, page: str = ALL, summary: str = "") -> "argparse._ArgumentGroup":
        """The group with this title that is on the page `page` and not on the first one.

        Args:
            summary: what the page holds, in a line for the first one.
        """
        group = self.group(title, page)
        self._further.add(group)
        self._list_page(page, summary)
        return group

    def add_pages(self, pages: OtherPages) -> None:
        """Show further pages by `--help NAME`."""
        self._other_pages = pages
        self._list_page(pages.kind, pages.summary)

    def pages(self, names: Sequence[str]) -> str:
        """The text of the pages with these names, or of the first one. Raises RequestError for an unknown name."""
        return "\n".join(map(self._page, names)) if names else self.format_help()

    def print_pages(self, names: Sequence[str]) -> None:
        """Print `pages`."""
        print(self.pages(names), end="")

    def format_usage(self) -> str:
        """The flags that are required, and the positional arguments."""
        formatter = self._get_formatter()
        formatter.add_usage(self._usage(), self._actions, self._mutually_exclusive_groups)
        return formatter.format_help()

    def format_help(self) -> str:
        """The first page."""
        formatter = self._get_formatter()
        formatter.add_usage(self.usage or self._usage(), self._actions, self._mutually_exclusive_groups)
        formatter.add_text(self.description)
        common = self._text_of(group for group in self._action_groups if group not in self._further)
        pages = {f"--help {page}": text for page, text in self._summaries.items()}
        more = _rows("more help", pages | {f"--help {ALL}": "every flag"} if pages else {})
        examples = _rows("examples", dict.fromkeys(self.examples, ""))
        return "\n".join(part for part in (formatter.format_help(), common, more, examples) if part)

    def _page(self, name: str) -> str:
        groups = [group for group in self._action_groups if name in (ALL, self._page_of.get(group))]
        if groups:
            return self._text_of(groups)
        others = self._other_pages
        text = None if others is None else others.text_of(name)
        if text is None:
            known = [page for page in self._summaries if not page.isupper()]
            near = did_you_mean(name, [*known, ALL, *(others.names if others else ())])
            raise RequestError(f"--help {name}: there is no such page; {near}")
        return text

    def _list_page(self, page: str, summary: str) -> None:
        self._help.nargs, self._help.metavar = "*", "PAGE"
        self._help.help = "show this text, or the pages below, and exit"
        if summary:
            self._summaries[page] = summary

    def _text_of(self, groups: Iterable["argparse._ArgumentGroup"]) -> str:
        formatter = self._get_formatter()
        for group in groups:
            formatter.start_section(group.title)
            formatter.add_text(group.description)
            formatter.add_arguments(group._group_actions)
            formatter.end_section()
        return formatter.format_help()

    def _usage(self) -> str:
        """The flags that are required, and the positional arguments."""
        required, positional = [], []
        for action in self._actions:
            name = str(action.metavar or action.dest.upper())
            if action.option_strings and action.required:
                required.append(f"{action.option_strings[-1]} {name}")
            elif not action.option_strings:
                positional.append(f"[{name} ...]" if action.nargs == "*" else name)
        return " ".join(["%(prog)s", *required, "[FLAGS]", *positional])


class _ShowPages(argparse.Action):
    """Print the pages that the words after --help name, or the first one, and end the script."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: object, values: Any, option: object = None) -> None:
        cast(PagedParser, parser).print_pages(values or [])
        parser.exit()


def _rows(title: str, rows: dict[str, str]) -> str:
    """A section with a line for each row, its two columns aligned; empty without rows."""
    if not rows:
        return ""
    width = max(map(len, rows))
    return "\n".join([f"{title}:", *(f"  {name:<{width}}  {text}".rstrip() for name, text in rows.items()), ""])

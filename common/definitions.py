"""What a Python file defines at its top level, what each definition uses, and a digest of some of them.

For finding the code that a class or function is made of: its own definition and all those that it uses, here and in the
files that it imports from. Comments, docstrings and layout are no part of a digest.
"""

import ast
import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
DIGITS = 16  # hexadecimal, of a SHA-256


@dataclass(frozen=True, eq=False)
class Definition:
    """A statement at the top level, or one name of an import there.

    Attributes:
        shape: its syntax tree, for digests.
        names: what it binds.
        always: whether it does more than bind names (a call, an `if`, a loop), and so to all who import the file.
        uses: all names that occur in it.
        imports: (module, name) of what it imports, also within functions; the name is None for a module as a whole.
    """

    shape: Any
    names: frozenset[str]
    always: bool
    uses: frozenset[str]
    imports: tuple[tuple[str, str | None], ...]


class Definitions:
    """All of a file.

    Args:
        package: what relative imports are relative to; "" where there is none.

    Raises:
        SyntaxError: the code is no Python.
    """

    def __init__(self, code: str, package: str = ""):
        tree = ast.parse(code)
        body = tree.body[1:] if ast.get_docstring(tree, clean=False) is not None else tree.body
        self.all = [found for statement in body for found in _definitions(statement, package)]

    def of(self, name: str | None) -> list[Definition]:
        """Those that bind a name and those that always count; all of them for None and for a name that none binds."""
        if name is None or name not in self._bound:
            return self.all
        return [each for each in self.all if each.always or name in each.names]

    @cached_property
    def _bound(self) -> frozenset[str]:
        return frozenset(name for each in self.all for name in each.names)

    def own_names(self, definition: Definition) -> frozenset[str]:
        """What a definition uses of this file."""
        return definition.uses & self._bound

    def digest(self, chosen: Collection[Definition]) -> str:
        """Of some of the definitions, in their order in the file."""
        shapes = [each.shape for each in self.all if each in chosen]
        return hashlib.sha256(repr(shapes).encode()).hexdigest()[:DIGITS]


def _definitions(statement: ast.stmt, package: str) -> Iterator[Definition]:
    if isinstance(statement, ast.Import | ast.ImportFrom):
        for alias, target in _imported(statement, package):
            names = frozenset([alias.asname or alias.name.partition(".")[0]])
            yield Definition((target, alias.asname), names, alias.name == "*", frozenset(), (target,))
        return
    nodes = list(ast.walk(statement))
    imports = [
        found for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for found in _imported(node, package)
    ]
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        names, always = [statement.name], False
    else:
        names = [node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
        names += [alias.asname or alias.name.partition(".")[0] for alias, _ in imports]
        always = not isinstance(statement, ast.Assign | ast.AnnAssign)
    uses = [node.id for node in nodes if isinstance(node, ast.Name)]
    targets = tuple(target for _, target in imports)
    yield Definition(_shape(statement), frozenset(names), always, frozenset(uses), targets)


def _imported(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[tuple[ast.alias, tuple[str, str | None]]]:
    """Each name of an import, with the module and the name there."""
    if isinstance(node, ast.Import):
        yield from ((alias, (alias.name, None)) for alias in node.names)
        return
    parts = package.split(".")
    base = ".".join(parts[: len(parts) + 1 - node.level]) if node.level else ""
    module = ".".join(filter(None, (base, node.module)))
    yield from ((alias, (module, None if alias.name == "*" else alias.name)) for alias in node.names)


def _shape(node: Any) -> Any:
    """A syntax tree as nested tuples without what is empty, which `ast.dump` writes otherwise in each Python."""
    if isinstance(node, list):
        return tuple(_shape(each) for each in node)
    if not isinstance(node, ast.AST):
        return repr(node)
    parts = {name: getattr(node, name, None) for name in node._fields}
    if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
        parts["body"] = node.body[1:]
    return (type(node).__name__, *((name, _shape(value)) for name, value in parts.items() if value not in (None, [])))

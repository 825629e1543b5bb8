"""What a line of code calls, as it is written: the names in front of the parentheses.

Read from the source and from the positions that the compiler kept for each instruction; no code
is run. Checked on CPython 3.11 to 3.15. Without source, or with `-X no_debug_ranges`, nothing is
known.
"""

from __future__ import annotations

import ast
import dis
import linecache
import re
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from types import CodeType

__all__ = ["Expression", "at_instruction", "on_line"]

# Instructions that run something else though nothing is written in parentheses.
_ENTERS: Final = frozenset({"BEFORE_WITH", "BEFORE_ASYNC_WITH", "LOAD_SPECIAL"})
# `with` calls __exit__ with three times None; 3.11 to 3.13 count one of them as its `self`.
_LEAVES: Final = "CALL of __exit__"
_NONES: Final = 2
_ITERATES: Final = frozenset({"FOR_ITER", "GET_ITER"})
_CALLS: Final = "CALL"
_ESCAPES: Final = re.compile(r"\\(?!\r?\n).", re.DOTALL)
_DOTS: Final = frozenset({".", "..", "..."})


class Expression(NamedTuple):
    """A dotted name and what happens to it: called, entered by `with`, iterated, or imported.

    `names` begins with a variable (`("requests", "get")`), unless `of` is set: then they are
    attributes of what that call returns, as in `open(path).read()`.
    """

    names: tuple[str, ...]
    method: str | None = None
    of: Expression | None = None
    imports: bool = False


def at_instruction(code: CodeType, lasti: int) -> Expression | None:
    """Return what the instruction at that offset calls; `None` if it calls nothing by name."""
    if lasti < 0:
        return None  # it has not begun yet
    position = next(islice(code.co_positions(), lasti // 2, None), None)
    name = dis.opname[code.co_code[lasti]]
    if name == "WITH_EXCEPT_START" or (name == "CALL" and code.co_code[lasti + 1] >= _NONES):
        name = _LEAVES
    if position is None or None in position:
        return None
    line, end_line, column, end_column = position
    text = _between(code.co_filename, line or 0, end_line or 0, column or 0, end_column or 0)
    expression = _parse(text, name) if text else None
    return expression if expression is not None and _is_of(code, expression) else None


def _is_of(code: CodeType, expression: Expression) -> bool:
    """Whether the code knows these names: a source that was edited since has other text there."""
    if expression.imports:
        return expression.names[0].lstrip(".") in code.co_names or expression.names[0] in _DOTS
    known = {*code.co_names, *code.co_varnames, *code.co_cellvars, *code.co_freevars}
    of = expression.of is None or _is_of(code, expression.of)
    return of and known.issuperset(expression.names)


def on_line(code: CodeType, line: int) -> list[Expression]:
    """Return what is called on a line, in the order of the instructions."""
    found = []
    raw = code.co_code
    for number, position in enumerate(code.co_positions()):
        if position[0] != line:
            continue
        name = dis.opname[raw[2 * number]]
        if name.startswith(_CALLS) or name in _ENTERS | _ITERATES:
            expression = at_instruction(code, 2 * number)
            if expression is not None and expression not in found:
                found.append(expression)
    return found


def _between(file: str, line: int, end_line: int, column: int, end_column: int) -> str:
    lines = [text.encode() for text in linecache.getlines(file)[line - 1 : end_line]]
    if not lines or len(lines) <= end_line - line:
        return ""
    # Columns count bytes.
    lines[-1] = lines[-1][:end_column]
    lines[0] = lines[0][column:]
    return b"".join(lines).decode(errors="replace")


def _parse(text: str, opcode: str) -> Expression | None:
    if text.startswith(("import ", "from ")):
        return _import(text)
    if text.startswith(("with ", "async with ", "for ")):
        return _statement(text, opcode)
    statement = _first_statement(f"({text}\n)")
    if not isinstance(statement, ast.Expr):
        return None
    node = statement.value
    if isinstance(node, ast.Await):
        node = node.value
    if isinstance(node, ast.Call):
        return _called(node.func)
    method = _method_of(opcode)
    return _with_method(node, method) if method is not None else None


def _first_statement(text: str) -> ast.stmt | None:
    # Escapes are only in strings, which nobody reads here; an unknown one would make the parser
    # warn once more of what the host's own compilation warned of.
    harmless = _ESCAPES.sub("__", text)
    try:
        return ast.parse(harmless).body[0]
    except (SyntaxError, ValueError, IndexError, RecursionError, MemoryError):
        return None


def _statement(text: str, opcode: str) -> Expression | None:
    """Return what the statement enters, leaves or iterates.

    Up to 3.12 such an instruction spans all of the statement.
    """
    node = _first_statement(text)
    method = _method_of(opcode)
    if method is None:
        return None
    if isinstance(node, (ast.With, ast.AsyncWith)) and len(node.items) == 1:
        return _with_method(node.items[0].context_expr, method)
    if isinstance(node, ast.For) and opcode in _ITERATES:
        iterated = node.iter
        if isinstance(iterated, ast.Call):
            return _called(iterated.func)
        return _with_method(iterated, method)
    return None


def _method_of(opcode: str) -> str | None:
    """Return the method that an instruction calls without a word of it in the source."""
    if opcode in _ITERATES:
        return "__next__"
    if opcode == _LEAVES:
        return "__exit__"
    return "__enter__" if opcode in _ENTERS or opcode.startswith(_CALLS) else None


def _with_method(node: ast.expr, method: str) -> Expression | None:
    expression = _called(node)
    return expression._replace(method=method) if expression is not None else None


def _called(function: ast.expr) -> Expression | None:
    names: list[str] = []
    while isinstance(function, ast.Attribute):
        names.append(function.attr)
        function = function.value
    names.reverse()
    if isinstance(function, ast.Name):
        return Expression((function.id, *names))
    if isinstance(function, ast.Await):
        function = function.value
    if isinstance(function, ast.Call) and names:
        inner = _called(function.func)
        return Expression(tuple(names), of=inner) if inner is not None else None
    return None


def _import(text: str) -> Expression | None:
    node = _first_statement(text)
    if isinstance(node, ast.Import):
        return Expression((node.names[0].name,), imports=True)
    if isinstance(node, ast.ImportFrom):
        return Expression(("." * node.level + (node.module or ""),), imports=True)
    return None

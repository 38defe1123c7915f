"""Mutants: small changes of a Python file that its tests should notice."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

COMPARISONS: dict[type, type] = {
    **{
        ast.Lt: ast.LtE,
        ast.LtE: ast.Lt,
        ast.Gt: ast.GtE,
        ast.GtE: ast.Gt,
        ast.Eq: ast.NotEq,
        ast.NotEq: ast.Eq,
    },
    **{ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In},
}
OPERATORS: dict[type, type] = {
    **{
        ast.Add: ast.Sub,
        ast.Sub: ast.Add,
        ast.Mult: ast.Div,
        ast.Div: ast.Mult,
        ast.FloorDiv: ast.Mult,
        ast.Mod: ast.Mult,
    },
    **{ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.And: ast.Or, ast.Or: ast.And},
}
PAIRS = (
    ("min", "max"),
    ("argmin", "argmax"),
    ("any", "all"),
    ("floor", "ceil"),
    ("zeros", "ones"),
    ("minimum", "maximum"),
    ("cumsum", "cumprod"),
)
NAMES: dict[str, str] = {a: b for pair in PAIRS for a, b in (pair, pair[::-1])}
PROGRESS = ("progress", "self.progress", "task")  # calls of these only report progress


@dataclass(frozen=True)
class Mutant:
    """One change of one file.

    Attributes:
        path: path of the file, relative to the repository.
        position: position of the changed node in the order of `ast.walk`.
        number: number of the change among those of the node.
        line: line of the node.
        function: first line of the innermost function around the node; None outside functions.
        shown: column, old code and new code.
    """

    path: str
    position: int
    number: int
    line: int
    function: int | None
    shown: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.shown}"


def mutants(root: Path, path: str) -> list[Mutant]:
    """Return all changes of a file.

    Args:
        root: folder of the repository.
        path: path of the file, relative to it.
    """
    source = (root / path).read_text(encoding="utf-8")
    tree, lines = ast.parse(source), source.splitlines()
    functions, excluded = _functions(tree), _excluded(tree)
    result = []
    for position, node in enumerate(ast.walk(tree)):
        if node in excluded:
            continue
        for number, changed in enumerate(_variants(node)):
            assert isinstance(node, (ast.expr, ast.stmt))  # other nodes have no variants
            line, column = node.lineno, node.col_offset + 1
            shown = f"{column}: {_short(node)}  →  {_short(changed)}"
            if not isinstance(node, ast.stmt):
                shown += f"  in  {lines[line - 1].strip()}"
            result.append(Mutant(path, position, number, line, functions.get(node), shown))
    return result


def mutated(root: Path, mutant: Mutant) -> ast.Module:
    """Return the syntax tree of the file with the change."""
    tree = ast.parse((root / mutant.path).read_text(encoding="utf-8"))
    old = next(node for position, node in enumerate(ast.walk(tree)) if position == mutant.position)
    new = list(_variants(old))[mutant.number]

    class Exchange(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST:
            return ast.copy_location(new, node) if node is old else self.generic_visit(node)

    changed = Exchange().visit(tree)
    assert isinstance(changed, ast.Module)
    return ast.fix_missing_locations(changed)


def _variants(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that may replace a node."""
    match node:
        case ast.Compare(left, operators, right):
            for position, operator in enumerate(operators):
                other = COMPARISONS[type(operator)]()
                yield ast.Compare(left, [*operators[:position], other, *operators[position + 1 :]], right)
        case ast.BinOp(left, operator, right) if type(operator) in OPERATORS:
            yield ast.BinOp(left, OPERATORS[type(operator)](), right)
        case ast.AugAssign(target, operator, value) if type(operator) in OPERATORS:
            yield ast.AugAssign(target, OPERATORS[type(operator)](), value)
        case ast.BoolOp(operator, values):
            yield ast.BoolOp(OPERATORS[type(operator)](), values)
        case ast.UnaryOp(ast.Not() | ast.USub() | ast.Invert(), operand):
            yield operand
        case ast.Constant(bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(int(value) | float(value)):
            yield ast.Constant(value + 1 if isinstance(value, int) else value * 2 or 1.0)
            if value > 1:
                yield ast.Constant(value * 2 if isinstance(value, int) else value / 2)
        case ast.Name(name, ast.Load()) if name in NAMES:
            yield ast.Name(NAMES[name], ast.Load())
        case ast.Attribute(value, name, ast.Load()) if name in NAMES:
            yield ast.Attribute(value, NAMES[name], ast.Load())
        case ast.Return(value) if value is not None and not isinstance(value, ast.Constant):
            yield ast.Return(ast.Constant(None))
        case ast.If(test, body, orelse) if not isinstance(test, ast.UnaryOp):
            yield ast.If(ast.UnaryOp(ast.Not(), test), body, orelse)
        case ast.IfExp(test, body, orelse):
            yield ast.IfExp(test, orelse, body)
        case ast.Expr(ast.Call()) | ast.Raise() | ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield ast.Pass()


def _excluded(tree: ast.Module) -> set[ast.AST]:
    """Return the nodes without mutants: types, texts of messages and help, code for type checkers,
    decorators, checks of equal lengths, and reports of progress.
    """
    roots: list[ast.AST] = []
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(decorator_list=decorators, returns=returns):
                roots += [*decorators, *([returns] if returns else [])]
            case ast.ClassDef(decorator_list=decorators):
                roots += decorators
            case ast.AnnAssign(annotation=annotation) | ast.arg(annotation=ast.expr() as annotation):
                roots.append(annotation)
            case ast.JoinedStr() | ast.If(test=ast.Name("TYPE_CHECKING")) | ast.Import() | ast.ImportFrom():
                roots.append(node)
            case ast.keyword("metadata" | "strict"):
                roots.append(node)
            case ast.Expr(ast.Call(ast.Attribute(receiver))) if ast.unparse(receiver) in PROGRESS:
                roots.append(node)
    return {node for root in roots for node in ast.walk(root)}


def _functions(tree: ast.Module) -> dict[ast.AST, int]:
    """Return the first line of the innermost function around each node, which is that of its first decorator.

    Defaults and decorators lie outside the function.
    """
    first_lines: dict[ast.AST, int] = {}
    for function in ast.walk(tree):  # outer functions before inner ones
        if isinstance(function, ast.FunctionDef):
            first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
            first_lines |= {node: first for statement in function.body for node in ast.walk(statement)}
    return first_lines


def _short(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 70 else f"{text[:69]}…"

"""Small changes of a Python file that its tests should notice: where they can be made, and the file with one of them."""

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
NAMES = dict(pair for one in ("min max", "argmin argmax", "any all", "floor ceil", "zeros ones", "minimum maximum", "cumsum cumprod")
             for pair in (tuple(one.split()), tuple(one.split()[::-1])))  # fmt: skip
TOLD = ("progress", "self.progress", "task")  # these only tell a person how far the work is


@dataclass(frozen=True)
class Mutant:
    """One change of one file.

    Attributes:
        place: of the changed node, in the order of `ast.walk`.
        number: of the change among those of that node.
        line: where it is.
        function: first line of the innermost function around it; None in none.
        shown: where in the line, what was there, what is there now.
    """

    path: str
    place: int
    number: int
    line: int
    function: int | None
    shown: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.memory_kv}"


def mutants(root: Path, path: str) -> list[Mutant]:
    """All changes of a file under `root`."""
    source = (root / path).read_text(encoding="utf-8")
    tree, lines = ast.parse(source), source.splitlines()
    functions, left_out = _functions(tree), _left_out(tree)
    found = []
    for place, node in enumerate(ast.walk(tree)):
        if node in left_out:
            continue
        for number, changed in enumerate(_variants(node)):
            line, column = node.lineno, node.col_offset + 1
            shown = f"{column}: {_short(node)}  →  {_short(changed)}" + (
                "" if isinstance(node, ast.stmt) else f"  in  {lines[line - 1].strip()}"
            )
            found.append(Mutant(path, place, number, line, functions.get(node), shown))
    return found


def mutated(root: Path, mutant: Mutant) -> ast.Module:
    """The file with the change."""
    tree = ast.parse((root / mutant.path).read_text(encoding="utf-8"))
    old = next(node for place, node in enumerate(ast.walk(tree)) if place == mutant.place)
    new = list(_variants(old))[mutant.number]

    class Exchange(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST:
            return ast.copy_location(new, node) if node is old else self.generic_visit(node)

    return ast.fix_missing_locations(Exchange().visit(tree))


def _variants(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in the place of a node."""
    match node:
        case ast.Compare(left, operators, right):
            for place, operator in enumerate(operators):
                yield ast.Compare(
                    left, [*operators[:place], COMPARISONS[type(operator)](), *operators[place + 1 :]], right
                )
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


def _left_out(tree: ast.Module) -> set[ast.AST]:
    """Nodes without mutants: types, texts of messages and help, what only runs in type checkers, decorators, checks of equal lengths."""
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
            case ast.Expr(ast.Call(ast.Attribute(told))) if ast.unparse(told) in TOLD:
                roots.append(node)
    return {node for root in roots for node in ast.walk(root)}


def _functions(tree: ast.Module) -> dict[ast.AST, int]:
    """The first line (that of its first decorator) of the innermost function around each node; defaults and decorators lie outside."""
    found: dict[ast.AST, int] = {}
    for function in ast.walk(tree):  # outer before inner
        if isinstance(function, ast.FunctionDef):
            first = min(line.lineno for line in (function, *function.decorator_list))
            found |= {node: first for statement in function.body for node in ast.walk(statement)}
    return found


def _short(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 70 else f"{text[:69]}…"

"""Conditions on the columns of a table, as a user types them: "category = 'Kitchen' and price < 30".

A condition is parsed as SQL, and its syntax tree is translated node by node. Only the nodes that this module
names are translated; no part of the text is evaluated. Light to import.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.errors import UserError
from pipelines.options import quoted
from pipelines.where.columns import (
    KINDS,
    Column,
    Test,
    Value,
    any_value,
    comparable,
    instants,
    kind_of_type,
    kind_of_value,
    leaf_of,
    operate,
    plain,
)

if TYPE_CHECKING:
    import polars as pl

LONGEST = 1_000  # characters of a condition
DEEPEST = 32  # nesting levels of a condition
LARGEST = 2**63  # bound of the whole numbers that stay whole
GRAMMAR = (
    "Allowed are columns, text in single quotes, numbers, true, false, =, !=, <, <=, >, >=, in, between, "
    "like, ilike, is null, and, or, not and parentheses; a column whose name is a word of SQL stands in "
    "double quotes."
)
DATE = re.compile(r"(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?)? ?(Z|[+-]\d\d:\d\d)?")
EXAMPLES = {"number": "30", "text": "'Kitchen'", "boolean": "true", "date": "'2024-01-31'"}
MIRRORED = {"GT": "LT", "LT": "GT", "GTE": "LTE", "LTE": "GTE", "EQ": "EQ", "NEQ": "NEQ"}

Node = Any  # a node of sqlglot's syntax tree, whose base class has another name in each version


def condition(text: str, schema: Mapping[str, pl.DataType], flag: str = "--where") -> pl.Expr:
    """Translate a condition into an expression that is true in the rows that satisfy it.

    A comparison with a missing value is neither true nor false, and so is its negation: the row does not
    qualify. A comparison of a column of lists is true if it is true of any entry; `!=` is true if no entry is
    equal. NaN counts as missing.

    Args:
        text: the condition. Names of columns may hold dots; names with other characters than letters, digits
            and "_" stand in double quotes.
        schema: column → type, of the table that is to be filtered.
        flag: option that holds the condition, for messages.

    Returns:
        an expression of true and false, without missing values.

    Raises:
        UserError: the text is not a condition, names an unknown column, compares a column with a value of
            another type, is too long or nested too deeply.
    """
    if len(text) > LONGEST:
        raise UserError(f"{flag} has {len(text):,} characters; a condition has at most {LONGEST:,}.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError(f"{flag} {quoted(text)} is not text in UTF-8. Type it again.") from None
    try:
        return _Translator(text, schema, flag).truth(_parsed(text, flag), 0).fill_null(False)
    except RecursionError:
        raise _too_deep(text, flag) from None


def _parsed(text: str, flag: str) -> Node:
    """Return the syntax tree of a condition."""
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import ParseError, SqlglotError

    logging.getLogger("sqlglot").setLevel(logging.CRITICAL)  # whose warnings would reach the terminal
    try:
        for token in sqlglot.tokenize(text):  # the parser of some versions passes over these
            if token.comments or token.token_type == sqlglot.TokenType.SEMICOLON:
                part = "a comment" if token.comments else "';'"
                raise UserError(f"{flag} {quoted(text)} holds {part}. Leave it out.")
        return exp.maybe_parse(text, into=exp.Condition)
    except ParseError as error:
        found = (error.errors or [{}])[0].get("highlight")
        place = f" at {quoted(found)}" if found else ""
    except SqlglotError:
        place = ": a quote is not closed"
    raise UserError(
        f"{flag} {quoted(text)} cannot be read{place}. Write e.g. \"category = 'Kitchen' and price < 30\"; "
        "text stands in single quotes, names with blanks in double quotes."
    )


def _too_deep(text: str, flag: str) -> UserError:
    return UserError(f"{flag} {quoted(text)} is nested more than {DEEPEST} levels deep. Write it flatter.")


@dataclass(frozen=True)
class _Translator:
    """Translation of the syntax tree of one condition."""

    text: str
    schema: Mapping[str, pl.DataType]
    flag: str

    def truth(self, node: Node, depth: int) -> pl.Expr:
        """Return the expression of a node that is true or false."""
        import polars as pl
        from sqlglot import exp

        if depth > DEEPEST:
            raise _too_deep(self.text, self.flag)
        if isinstance(node, exp.Paren):
            return self.truth(node.this, depth + 1)
        if isinstance(node, (exp.And, exp.Or)):
            parts = [self.truth(part, depth + 1) for part in node.flatten()]
            return pl.all_horizontal(parts) if isinstance(node, exp.And) else pl.any_horizontal(parts)
        if isinstance(node, exp.Not):
            return ~self.truth(node.this, depth + 1)
        if isinstance(node, (exp.Column, exp.Dot)):
            return self._compared(node, self._column(node), "EQ", True)
        if isinstance(node, (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE)):
            return self._comparison(node)
        return self._predicate(node)

    def _predicate(self, node: Node) -> pl.Expr:
        """Return the expression of a node of another kind than and, or, not and comparisons."""
        import polars as pl
        from sqlglot import exp

        arguments = {name for name, value in node.args.items() if value}
        if isinstance(node, exp.In) and arguments == {"this", "expressions"}:
            column = self._column(node.this)
            values = [self._value(value) for value in node.expressions]
            return pl.any_horizontal([self._compared(node, column, "EQ", value) for value in values])
        if isinstance(node, exp.Between) and arguments == {"this", "low", "high"}:
            column = self._column(node.this)
            low, high = (self._test(node, column, op, self._value(node.args[end])) for op, end in BOUNDS)
            return any_value(pl.col(column.name), column.type, lambda values: low(values) & high(values))
        if isinstance(node, (exp.Like, exp.ILike)) and arguments <= {"this", "expression", "negate"}:
            found = self._like(node)
            return ~found if "negate" in arguments else found
        if isinstance(node, exp.Is) and isinstance(node.expression, exp.Null):
            return pl.col(self._column(node.this).name).is_null()
        raise self._refused(node)

    def _comparison(self, node: Node) -> pl.Expr:
        from sqlglot import exp

        left, right = node.this, node.expression
        operator = type(node).__name__
        if not isinstance(left.unnest(), (exp.Column, exp.Dot)):
            left, right, operator = right, left, MIRRORED[operator]
        if not isinstance(left.unnest(), (exp.Column, exp.Dot)):
            raise self._refused(node)
        column = self._column(left)
        if not isinstance(right.unnest(), (exp.Column, exp.Dot)):
            return self._compared(node, column, operator, self._value(right))
        other = self._column(right)
        if column.kind != other.kind or not column.kind or column.type.is_nested() or other.type.is_nested():
            raise UserError(
                f"{self.flag}: {_shown(node)} compares {column.name}, of type {column.type}, with "
                f"{other.name}, of type {other.type}."
            )
        return operate(operator, comparable(column), comparable(other))

    def _compared(self, node: Node, column: Column, operator: str, value: Value) -> pl.Expr:
        """Return the comparison of a column with a value."""
        import polars as pl

        test = self._test(node, column, "EQ" if operator == "NEQ" else operator, value)
        found = any_value(pl.col(column.name), column.type, test)
        return ~found if operator == "NEQ" else found

    def _test(self, node: Node, column: Column, operator: str, value: Value) -> Test:
        """Return the comparison of each value of a column with a constant."""
        import polars as pl

        kind = kind_of_value(value)
        if column.leaf == pl.Null():
            return lambda values: values.cast(pl.Boolean)  # never qualifies
        if column.kind == "date" and isinstance(value, str):
            instant = pl.lit(self._instant(node, column, value))
            return lambda values: operate(operator, instants(values, column.leaf), instant)
        if column.kind != kind:
            advice = f"; write e.g. {EXAMPLES[column.kind]}" if column.kind else " and cannot be compared"
            raise UserError(
                f"{self.flag}: {_shown(node)} compares {column.name} with {KINDS[kind]}, but {column.name} "
                f"has the type {column.type}{advice}."
            )
        constant = pl.lit(value)
        return lambda values: operate(operator, plain(values, column), constant)

    def _instant(self, node: Node, column: Column, text: str) -> Any:
        """Return the instant that a text names, in UTC and without a time zone."""
        from datetime import datetime, timezone

        if found := DATE.fullmatch(text):
            day, clock, seconds, fraction, offset = found.groups()
            complete = f"{day} {clock or '00:00'}:{seconds or '00'}.{(fraction or '').ljust(6, '0')}"
            try:
                instant = datetime.fromisoformat(complete + (offset or "Z").replace("Z", "+00:00"))
                return instant.astimezone(timezone.utc).replace(tzinfo=None)
            except (ValueError, OverflowError):
                pass
        raise UserError(
            f"{self.flag}: {_shown(node)} compares {column.name}, of type {column.type}, with "
            f"{quoted(text)}, which is no date. Write e.g. '2024-01-31' or '2024-01-31 12:30'."
        )

    def _like(self, node: Node) -> pl.Expr:
        import polars as pl
        from sqlglot import exp

        column, pattern = self._column(node.this), self._value(node.expression)
        if column.kind != "text" or not isinstance(pattern, str):
            raise UserError(
                f"{self.flag}: {_shown(node)} compares {column.name}, of type {column.type}; like needs a "
                "column of text and a pattern in quotes."
            )
        parts = re.split(r"(%+|_)", pattern)
        body = "".join(".*" if part[:1] == "%" else "." if part == "_" else _escaped(part) for part in parts)
        regex = f"(?s{'i' if isinstance(node, exp.ILike) else ''})^{body}$"
        test: Test = lambda values: plain(values, column).str.contains(regex)  # noqa: E731
        return any_value(pl.col(column.name), column.type, test)

    def _column(self, node: Node) -> Column:
        """Return the column that a node names."""
        from sqlglot import exp

        node = node.unnest()
        if not isinstance(node, (exp.Column, exp.Dot)) or not all(
            isinstance(part, exp.Identifier) for part in node.parts
        ):
            raise self._refused(node)
        name = ".".join(part.name for part in node.parts)
        if name not in self.schema:
            raise self._unknown(name)
        leaf = leaf_of(self.schema[name])
        return Column(name, self.schema[name], leaf, kind_of_type(leaf))

    def _unknown(self, name: str) -> UserError:
        known = {column.casefold(): column for column in reversed(list(self.schema))}
        near = [known[match] for match in difflib.get_close_matches(name.casefold(), known, 3, 0.6)]
        columns = list(self.schema)
        if near:
            advice = f"Near ones are {', '.join(near)}."
        elif columns:
            more = f" and {len(columns) - 20:,} more" if len(columns) > 20 else ""
            advice = f"There are {', '.join(columns[:20])}{more}."
        else:
            advice = "There are no columns."
        return UserError(f"{self.flag} {quoted(self.text)}: there is no column {quoted(name)}. {advice}")

    def _value(self, node: Node) -> Value:
        """Return the constant that a node stands for."""
        from sqlglot import exp

        node = node.unnest()
        if isinstance(node, exp.Neg):
            value = self._value(node.this)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                return -value
        if isinstance(node, exp.Boolean):
            return bool(node.this)
        if isinstance(node, exp.Null):
            raise UserError(f"{self.flag} {quoted(self.text)}: nothing equals null. Write is null.")
        if isinstance(node, exp.Literal) and node.is_string:
            return node.this
        with suppress(ValueError):  # digits of other scripts
            if isinstance(node, exp.Literal):
                return _number(node.this)
        raise self._refused(node)

    def _refused(self, node: Node) -> UserError:
        return UserError(f"{self.flag} {quoted(self.text)}: {_shown(node)} is not allowed. {GRAMMAR}")


BOUNDS = (("GTE", "low"), ("LTE", "high"))  # operator and argument of both ends of "between"


def _shown(node: Node) -> str:
    """Return a part of the condition, as messages repeat it."""
    from sqlglot.errors import ErrorLevel, SqlglotError

    try:
        return quoted(node.sql(unsupported_level=ErrorLevel.IGNORE))
    except (SqlglotError, ValueError, TypeError, AttributeError, KeyError):  # a part that cannot be written
        return f"a part ({type(node).__name__})"


def _number(text: str) -> int | float:
    """Return a number; a whole one of more than 64 bits as a float, which may be infinite."""
    number = float(text)
    return int(text) if abs(number) < LARGEST and text.isdecimal() else number


def _escaped(text: str) -> str:
    """Return a text as a regular expression that matches only it."""
    return re.sub(r"([][\\.^$|?*+(){}#&~/-])", r"\\\1", text)

"""Arithmetic. It walks the expression's syntax tree, runs no code, and bounds every number on the way."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any, TypeAlias

from mmagent import ToolError, tool

Number: TypeAlias = int | float

MAX_CHARS = 200
MAX_VALUE = 1e300
MAX_POWER_BITS = 1000  # 2 ** 1000 is about 1e301
MAX_ROUND_DIGITS = 15
HELP = "use numbers, + - * / // % **, parentheses, abs, min, max and round"

OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
FUNCTIONS: dict[str, Callable[..., Any]] = {"abs": abs, "max": max, "min": min, "round": round}


@tool(effect="read", untrusted=False)
def calculate(expression: str) -> str:
    """Work out an arithmetic expression.

    Args:
        expression: For example (19.99 + 5) * 2.
    """
    if len(expression) > MAX_CHARS:
        raise ToolError(f"the expression is longer than {MAX_CHARS} characters; calculate it in parts")
    try:
        value = evaluate(ast.parse(expression.strip(), mode="eval").body)
    except ZeroDivisionError as error:
        raise ToolError(f"{expression!r} divides by zero") from error
    except OverflowError as error:
        raise ToolError(f"{expression!r} is too large a number") from error
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise ToolError(f"{expression!r} is no arithmetic; {HELP}") from error
    return str(value) if isinstance(value, int) else f"{value + 0.0:.10g}"


def evaluate(node: ast.expr) -> Number:
    """The value of a syntax tree of numbers, operators and the few functions.

    Raises:
        ValueError, TypeError: It holds something else.
        OverflowError: A number on the way is too large.
    """
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            result = value
        case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
            result = OPERATORS[type(op)](evaluate(operand))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            result = apply(OPERATORS[type(op)], evaluate(left), evaluate(right))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS:
            result = apply(FUNCTIONS[name], *map(evaluate, args))
        case _:
            raise ValueError(f"{type(node).__name__} is no arithmetic")
    if not isinstance(result, int | float):
        raise ValueError("a root of a negative number")
    if not abs(result) <= MAX_VALUE:  # so written, it refuses NaN too
        raise OverflowError
    return result


def apply(function: Callable[..., Any], *values: Number) -> Any:
    """Call an operator or function, unless its result would take long to compute."""
    if function is operator.pow and all(isinstance(value, int) for value in values):
        base, exponent = values
        if int(base).bit_length() * abs(exponent) > MAX_POWER_BITS:
            raise OverflowError
    if function is round and len(values) > 1 and abs(values[1]) > MAX_ROUND_DIGITS:
        raise ValueError("too many digits")
    return function(*values)

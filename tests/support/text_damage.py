"""Finds what an automatic wrapper leaves behind in Python files: cut strings, broken paragraphs, torn code spans."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from typing import NamedTuple

BANNER = re.compile(r"^\s*#\s*[-=#*]{3,}")
REST = re.compile(r"(?<!`)`{2}(?!`)|:(?:class|func|meth|mod|attr|data|exc|ref):`|^[^#=\[]*\w:{2}$")
LONG_LINE, SHORT_LINE = 90, 16  # a line below the first that is shorter than the second was pushed there
SHORT_PIECE = 12  # the same of a string that is joined from several


def damage(source: str) -> list[str]:
    """One sentence for each damaged place, with its line."""
    found = [*_lines(source), *_strings(source), *_docstrings(source)]
    return [f"line {line}: {what}" for line, what in sorted(found)]


def _lines(source: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(source.splitlines(), start=1):
        if BANNER.match(line):
            yield number, "a section banner"
        if REST.search(line):
            yield number, "reST in place of Markdown back-ticks"


class _Piece(NamedTuple):
    """One string token; `run` is equal for pieces that are joined without an operator."""

    first: int
    last: int
    prefix: str
    text: str
    run: int


def _strings(source: str) -> Iterator[tuple[int, str]]:
    """Strings that are joined from pieces on lines of their own, and f-strings without a placeholder."""
    pieces = list(_pieces(source))
    for piece, after in zip(pieces, [*pieces[1:], None]):
        if "f" in piece.prefix and "{" not in piece.text:
            yield piece.first, "an f-string without a placeholder"
        joined = after is not None and after.run == piece.run and after.first == piece.last + 1
        if joined and len(piece.text) < SHORT_PIECE and not piece.text.endswith("\\n"):
            yield piece.first, "a string that was cut after a word or two"


def _pieces(source: str) -> Iterator[_Piece]:
    lines, run, depth, start = source.splitlines(keepends=True), 0, 0, (0, 0)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        kind = tokenize.tok_name[token.type]
        if kind in ("NL", "COMMENT"):
            continue
        depth -= kind == "FSTRING_END"  # from Python 3.12 on, an f-string is several tokens
        if depth == 0 and kind in ("STRING", "FSTRING_END"):
            begin = token.start if kind == "STRING" else start
            yield _piece(_between(lines, begin, token.end), begin[0], token.end[0], run)
        elif depth == 0 and kind == "FSTRING_START":
            start = token.start
        elif depth == 0:
            run += 1
        depth += kind == "FSTRING_START"


def _between(lines: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    rows = lines[start[0] - 1 : end[0]]
    rows[-1] = rows[-1][: end[1]]
    return "".join(rows)[start[1] :]


def _piece(literal: str, first: int, last: int, run: int) -> _Piece:
    prefix = literal[: len(literal) - len(literal.lstrip("rbufRBUF"))]
    return _Piece(first, last, prefix.lower(), literal[len(prefix) :].strip("\"'"), run)


def _docstrings(source: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else ():
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                value = statement.value
                if isinstance(value.value, str):
                    yield from _docstring(value.value, value.lineno)


def _docstring(text: str, first: int) -> Iterator[tuple[int, str]]:
    lines = text.split("\n")
    if text.startswith(" "):
        yield first, "a docstring that begins with a blank"
    whole = text.strip().split("\n")
    if len(whole) == 2 and 0 < len(whole[1].split()) <= 3:
        yield first + 1, "a one-sentence docstring whose last words stand alone"
    fenced = False
    for number, (before, line, after) in enumerate(zip(["", *lines], lines, [*lines[1:], ""]), start=first):
        fenced ^= line.strip().startswith("```")
        if fenced or line.strip().startswith((">>>", "...")):
            continue
        if line.count("`") % 2:
            yield number, "a code span that is torn over two lines"
        if _was_pushed(before, line, after):
            yield number, "words on a line of their own in the middle of a paragraph"


def _was_pushed(before: str, line: str, after: str) -> bool:
    """A word or two below a full line, with more of the same paragraph behind them."""
    words = line.strip()
    in_prose = bool(re.match(r"[a-z(`]", words)) and not words.endswith((":", "|", "."))
    return len(before) > LONG_LINE and 0 < len(words) < SHORT_LINE and in_prose and bool(after.strip())

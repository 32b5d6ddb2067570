"""How a graph names the functions of attention (docs/attention_functions.md): text to a tree.

    score = "alibi(a) then softcap(30)"          one after the other
    mask  = "causal & (window(1024) | prefix(b))"    & binds more than |

A function is the name of a builtin or FILE:NAME, of a user's own file; its arguments are numbers,
and `a` and `b`, the tensors that the node binds as fn_a and fn_b. src/kernel/function_text.cc reads
the same.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

TENSORS = ("a", "b")
_TOKEN = re.compile(
    r"\s*(?:(?P<number>-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w.]))|(?P<name>[\w./-]+(?::\w+)?)"
    r"|(?P<sign>[&|(),]))"
)


class FunctionTextError(ValueError):
    """What of a text is wrong."""


@dataclass(frozen=True)
class Call:
    """`file`: of a user's own function; empty for a builtin. Arguments as they are written."""

    name: str
    args: tuple[str, ...] = ()
    file: str = ""


@dataclass(frozen=True)
class Combined:
    """`sign`: & or |."""

    sign: str
    parts: tuple["Mask", ...]


Mask = Call | Combined


class _Reader:
    def __init__(self, text: str) -> None:
        self.text, self.tokens, at = text, [], 0
        while text[at:].strip():
            match = _TOKEN.match(text, at)
            if match is None:
                raise FunctionTextError(f"{text!r}: unexpected {text[at:].strip()[0]!r}")
            self.tokens.append((match.lastgroup, match[match.lastgroup]))
            at = match.end()

    def peek(self) -> str:
        return self.tokens[0][1] if self.tokens else ""

    def take(self, want: str) -> str:
        """The next token, which is that sign or of that kind."""
        if not self.tokens or want not in self.tokens[0]:
            got = repr(self.peek()) if self.tokens else "the end"
            raise FunctionTextError(f"{self.text!r}: expected {want}, got {got}")
        return self.tokens.pop(0)[1]

    def call(self) -> Call:
        if self.peek() == "then":
            raise FunctionTextError(f"{self.text!r}: expected a function, got 'then'")
        file, _, name = self.take("name").rpartition(":")
        args = []
        if self.peek() == "(":
            self.take("(")
            args.append(self.argument())
            while self.peek() == ",":
                self.take(",")
                args.append(self.argument())
            self.take(")")
        return Call(name, tuple(args), file)

    def argument(self) -> str:
        return self.take("name" if self.peek() in TENSORS else "number")

    def factor(self) -> Mask:
        if self.peek() != "(":
            return self.call()
        self.take("(")
        inner = self.mask()
        self.take(")")
        return inner

    def joined(self, sign: str, part) -> Mask:
        parts = [part()]
        while self.peek() == sign:
            self.take(sign)
            parts.append(part())
        return parts[0] if len(parts) == 1 else Combined(sign, tuple(parts))

    def mask(self) -> Mask:
        return self.joined("|", lambda: self.joined("&", self.factor))

    def score(self) -> tuple[Call, ...]:
        calls = [self.call()]
        while self.peek() == "then":
            self.take("then")
            calls.append(self.call())
        return tuple(calls)

    def end(self) -> None:
        if self.tokens:
            raise FunctionTextError(f"{self.text!r}: unexpected {self.peek()!r}")


def parse_score(text: str) -> tuple[Call, ...]:
    reader = _Reader(text)
    calls = reader.score()
    reader.end()
    return calls


def parse_mask(text: str) -> Mask:
    reader = _Reader(text)
    mask = reader.mask()
    reader.end()
    return mask


def calls_of(mask: Mask) -> Iterator[Call]:
    if isinstance(mask, Call):
        yield mask
    else:
        for part in mask.parts:
            yield from calls_of(part)

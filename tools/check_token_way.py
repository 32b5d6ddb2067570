"""Holds docs/architecture.md's way of a token to the code: the files and functions its table names.

The section "## The way of a token" has one table. A row's first cell is a file, `apps/main.cc`, and
the row names functions of it, `main()` or `Runner::step()`: each must be defined there. Few files
must be enough to follow a token from the command line to the launch of a kernel.
"""

import re
import sys

from repo_files import ROOT

DOCUMENT = "docs/architecture.md"
SECTION = "## The way of a token"
MAX_FILES = 12

FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
FUNCTION = re.compile(r"((?:\w+::)*)(~?\w+)\(\)")
# What is no code: comments, strings and characters of C++. Digits' separators are no quotes.
NO_CODE = re.compile(
    r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|(?<!\w)\'(?:\\.|[^\'\\\n])+\'', re.DOTALL
)
# Between the parameters and the body of a definition.
TO_BODY = re.compile(r"(?:\s|const\b|noexcept\b|override\b|final\b|->[^{;]*|:(?!:)[^;]*?)*\{")


def table_rows(document: str) -> list[list[str]]:
    """The cells of each row of the section's table, without its heading."""
    _, found, rest = document.partition(f"{SECTION}\n")
    if not found:
        raise ValueError(f'no section "{SECTION}"')
    section = FENCE.sub("", re.split(r"^## ", rest, maxsplit=1, flags=re.MULTILINE)[0])
    tables = re.findall(r"(?:^\|.*\n?)+", section, re.MULTILINE)
    if len(tables) != 1:
        raise ValueError(f'expected one table in "{SECTION}", got {len(tables)}')
    rows = [line.strip().strip("|").split("|") for line in tables[0].splitlines()]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def end_of_parentheses(code: str, start: int) -> int:
    """Behind the parenthesis that closes the one at `start`."""
    depth = 0
    for i in range(start, len(code)):
        depth += {"(": 1, ")": -1}.get(code[i], 0)
        if depth == 0:
            return i + 1
    return len(code)


def is_defined(source: str, qualifier: str, name: str, is_python: bool = False) -> bool:
    """Whether `source` has the function's body; a call or a declaration is none."""
    if is_python:
        return re.search(rf"^\s*(async )?def {name}\(", source, re.MULTILINE) is not None
    code = NO_CODE.sub(" ", source)
    owner = qualifier.removesuffix("::").rpartition("::")[2] or r"\w+"
    name = re.escape(name)
    patterns = [rf"\b{owner}::{name}\s*\("]
    # In the body of its class or namespace it goes without that name.
    if not qualifier or re.search(
        rf"\b(class|struct|namespace [\w:]*?)\s*\b{owner}\b[^;]*?{{", code
    ):
        patterns.append(rf"(?<![\w.~:>]){name}\s*\(")
    for match in re.finditer("|".join(patterns), code):
        if TO_BODY.match(code, end_of_parentheses(code, match.end() - 1)):
            return True
    return False


def problems_of(document: str) -> list[str]:
    try:
        rows = table_rows(document)
    except ValueError as error:
        return [str(error)]
    problems, files = [], set()
    for row in rows:
        named = CODE.findall(row[0])
        functions = [
            match for text in CODE.findall("|".join(row)) if (match := FUNCTION.fullmatch(text))
        ]
        if len(named) != 1 or not functions:
            problems.append(f"expected a row of one file and functions, got: {' | '.join(row)}")
            continue
        file = named[0]
        files.add(file)
        if not (ROOT / file).is_file():
            problems.append(f"{file} does not exist")
            continue
        source = (ROOT / file).read_text()
        for function in functions:
            if not is_defined(source, function[1], function[2], file.endswith(".py")):
                problems.append(f"{file} does not define {function[0]}")
    if len(files) > MAX_FILES:
        problems.append(f"{len(files)} files; expected at most {MAX_FILES}")
    return problems


def main() -> None:
    problems = problems_of((ROOT / DOCUMENT).read_text())
    for problem in problems:
        print(f"{DOCUMENT}: the way of a token: {problem}")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()

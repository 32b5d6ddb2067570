"""Holds the documents to the tree: a path that a Markdown file names must exist."""

import re
import sys
from pathlib import PurePosixPath

from repo_files import ROOT, repo_files

CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
PATH = re.compile(r"\.?/?[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*/?")
# A word that stands for any name, as in kernels/NAME.py.
ANY_NAME = re.compile(r"\b(NAME|DIR|MODEL)\b")
# Made by ./dev, so absent from a fresh clone.
MADE = {"build", ".venv"}


def named_paths(text, top_level):
    """Each thing in the text that can only be a path of this repository."""
    text = FENCE.sub("", text)
    for match in LINK.finditer(text):
        if "://" not in match.group(1) and not match.group(1).startswith("mailto:"):
            yield match.group(1)
    for match in CODE.finditer(text):
        word = match.group(1).split(" ")[0].split(":")[0].rstrip(",.")
        first = word.removeprefix("./").split("/")[0]
        if (
            PATH.fullmatch(word)
            and not ANY_NAME.search(word)
            and first not in MADE
            and ((first in top_level and "/" in word) or word.endswith(".md"))
        ):
            yield word


def exists(word, document):
    word = word.removeprefix("./")
    return (ROOT / word).exists() or (ROOT / PurePosixPath(document).parent / word).exists()


def main():
    top_level = {name.split("/")[0] for name in repo_files()}
    problems = [
        f"{document}: names {word}, which does not exist"
        for document in repo_files("*.md")
        for word in named_paths((ROOT / document).read_text(), top_level)
        if not exists(word, document)
    ]
    for problem in problems:
        print(problem)
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()

"""Holds every source file to its form: at most 600 lines or a reason, and nothing left out."""

import re
import sys

from repo_files import ROOT, repo_files

MAX_LINES = 600
N_TOP_LINES = 20
# A longer file says why in its first lines, in a comment that starts with this.
REASON = re.compile(r"(//|#|\"\"\"|\*)?\s*Length: \S+")
SOURCES = ("*.h", "*.cc", "*.def", "*.py", "*.cmake", "*CMakeLists.txt", "dev", ".ci/run")
# Spelt in pieces, so that this file passes its own check.
LEFT_OUT = re.compile(
    r"\b(to" + r"do|fix" + r"me|xx" + r"x|not (yet )?imple" + r"mented|place" + r"holder)\b",
    re.IGNORECASE,
)


def problems_of(name):
    lines = (ROOT / name).read_text().splitlines()
    if len(lines) > MAX_LINES and not any(REASON.search(line) for line in lines[:N_TOP_LINES]):
        yield f'{name}: {len(lines)} lines, over {MAX_LINES}, and no "Length: reason" at the top'
    for number, line in enumerate(lines, 1):
        match = LEFT_OUT.search(line)
        if match:
            yield f'{name}:{number}: "{match.group(0)}" stands where something is missing'
        if line != line.rstrip():
            yield f"{name}:{number}: white space at the end of the line"
        if "\t" in line:
            yield f"{name}:{number}: a tab; indent with spaces"


def main():
    problems = [problem for name in repo_files(*SOURCES) for problem in problems_of(name)]
    for problem in problems:
        print(problem)
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()

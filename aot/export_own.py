"""Prints what a user's file says of its operation: row, Spec, and in which line each part stands.

python -m aot.export_own --file FILE --name NAME [--shown PATH]
(docs/formats.md, section 9)
"""

import argparse
import ast
import contextlib
import json
import sys
import traceback
from pathlib import Path

from aot import sources
from aot.export import spec_json

SCHEMA = 1
ROW_PARTS = ("operands", "results", "attributes", "in_place")


class OwnError(ValueError):
    """What is wrong with the file, and in which line."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line = line


def _line_of(error: BaseException, path: Path) -> int:
    """Of the file: the last that ran, or that Python could not read."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno or 1
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno for frame in reversed(frames) if frame.filename == str(path)), 1)


def _load(name: str, path: Path):
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return sources.load_spec(name)
    except AttributeError as error:
        if getattr(error, "name", None) == "SPEC":
            raise OwnError(1, "there is no SPEC; expected SPEC = Spec(...) at the end") from error
        raise OwnError(_line_of(error, path), f"AttributeError: {error}") from error
    except (Exception, SystemExit) as error:
        raise OwnError(_line_of(error, path), f"{type(error).__name__}: {error}") from error


class Lines:
    """Where the file writes the parts of its SPEC; the SPEC's own line for what it computes."""

    def __init__(self, path: Path) -> None:
        tree = ast.parse(path.read_text())
        self._assigned = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        value = self._assigned.get("SPEC")
        self.spec = value.lineno if value is not None else 1
        self._parts = self._keywords(value)
        row = self._resolved(self._parts.get("row"))
        self._row = self._keywords(row)
        if isinstance(row, ast.Call):
            self._row |= dict(zip(ROW_PARTS, row.args))
        self.params = {
            call.args[0].value: call.lineno
            for call in ast.walk(self._parts.get("params") or ast.Tuple([]))
            if isinstance(call, ast.Call) and call.args and isinstance(call.args[0], ast.Constant)
        }

    def _resolved(self, node: ast.expr | None) -> ast.expr | None:
        return self._assigned.get(node.id) if isinstance(node, ast.Name) else node

    def _keywords(self, node: ast.expr | None) -> dict[str, ast.expr]:
        if not isinstance(node, ast.Call):
            return {}
        return {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}

    def part(self, name: str) -> int:
        node = self._row.get(name) or self._parts.get("op" if name == "name" else "row")
        return node.lineno if node is not None else self.spec


def export(path: Path, name: str) -> dict:
    sources.use_own(path, name)
    spec = _load(name, path)
    lines = Lines(path)
    if not spec.op or spec.row is None:
        raise OwnError(
            lines.spec,
            'SPEC says no operation; expected op="NAME" and row=Row("x:float[N,C]", ...)',
        )
    texts = {"name": spec.op, **{part: getattr(spec.row, part) for part in ROW_PARTS}}
    return {
        "schema": SCHEMA,
        "line": lines.spec,
        "row": {part: {"text": text, "line": lines.part(part)} for part, text in texts.items()},
        "params": {p.name: lines.params.get(p.name, lines.spec) for p in spec.params},
        "spec": spec_json(name),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="aot.export_own", description=__doc__)
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--name", required=True, help="what requests call it")
    parser.add_argument("--shown", help="the file as errors name it")
    args = parser.parse_args()
    try:
        print(json.dumps(export(args.file.resolve(), args.name), indent=1))
        return 0
    except OwnError as error:
        print(f"{args.shown or args.file}:{error.line}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

"""Holds the layers: includes and CMake dependencies point only to what src/layers.txt allows."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
QUOTED_INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"')
ANY_INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]')
LAYER_TARGET = re.compile(r"\bnereid(?:::|_)([a-z]+)\b")
# The installed headers are the face of the engine; these layers therefore see them. base defines
# what everything throws.
MAY_INCLUDE_API = {"base", "grammar", "program", "engine", "measure", "server"}


def read_layers(path):
    """{layer: the layers it may include, itself among them}; a line names only earlier lines."""
    layers = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        line = line.split("#")[0].strip()
        if not line:
            continue
        name, _, allowed = line.partition(":")
        allowed = set(allowed.split())
        unknown = allowed - layers.keys()
        if unknown:
            sys.exit(
                f"{path}:{number}: {name} names {sorted(unknown)}, which no earlier line declares"
            )
        layers[name.strip()] = allowed | {name.strip()}
    return layers


def sources(folder):
    return sorted(p for p in folder.rglob("*") if p.suffix in (".h", ".cc", ".def", ".inc"))


def includes(path, pattern=QUOTED_INCLUDE):
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = pattern.match(line)
        if match:
            yield number, match.group(1)


def check_src(layers):
    for folder in sorted(p for p in (ROOT / "src").iterdir() if p.is_dir()):
        layer = folder.name
        if layer not in layers:
            yield f"src/{layer}: no line in src/layers.txt declares this layer"
            continue
        for path in sources(folder):
            for number, target in includes(path):
                where = f"{path.relative_to(ROOT)}:{number}"
                first = target.split("/")[0]
                if first == "nereid" and layer in MAY_INCLUDE_API:
                    continue
                if "/" not in target:
                    yield f'{where}: write "{layer}/{target}": includes are relative to src'
                elif first not in layers[layer]:
                    yield f'{where}: {layer} may not include "{target}" (see src/layers.txt)'
                elif not (ROOT / "src" / target).exists() and not target.endswith(".inc"):
                    yield f'{where}: "{target}" is not under src'


def check_ttir():
    """ttir/ may include itself and base."""
    root = ROOT / "ttir"
    for path in sources(root):
        for number, target in includes(path):
            own = (root / target).exists() or (path.parent / target).exists()
            if not own and target.split("/")[0] not in ("base", "ttir", "hwy"):
                where = f"{path.relative_to(ROOT)}:{number}"
                yield f'{where}: ttir may not include "{target}", only ttir and base'


def check_api():
    """The installed headers include std and each other: a user needs nothing else of ours."""
    for path in sources(ROOT / "include"):
        for number, target in includes(path, ANY_INCLUDE):
            std = "/" not in target and "." not in target
            if not std and target.split("/")[0] != "nereid":
                where = f"{path.relative_to(ROOT)}:{number}"
                yield f"{where}: an installed header may not include {target}"


def check_cmake(layers):
    """nereid::x in src/<layer>/CMakeLists.txt and ttir/CMakeLists.txt obeys the same table."""
    allowed_of = {f"src/{name}": allowed for name, allowed in layers.items()}
    allowed_of["ttir"] = {"ttir", "base"}
    for folder, allowed in allowed_of.items():
        for path in sorted((ROOT / folder).rglob("CMakeLists.txt")):
            for number, line in enumerate(path.read_text().splitlines(), 1):
                for target in LAYER_TARGET.findall(line.split("#")[0]):
                    if (target in layers and target not in allowed) or target == "ttir" != folder:
                        where = f"{path.relative_to(ROOT)}:{number}"
                        yield f"{where}: {folder} may not depend on nereid::{target}"


def main():
    layers = read_layers(ROOT / "src" / "layers.txt")
    problems = [*check_src(layers), *check_ttir(), *check_api(), *check_cmake(layers)]
    for problem in problems:
        print(problem)
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()

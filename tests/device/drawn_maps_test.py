"""Row operations given as expressions, drawn by chance: the kernel that is written for each, on the
CPU, against numpy.

    drawn_maps_test.py NEREID [--n 300] [--seed 7] [--random 1]
    drawn_maps_test.py NEREID --target cuda:90 --make-only --keep DIR   (to run on a GPU elsewhere)

Each draw is a graph of one node, or of two that fuse. The program writes the kernel and its
reference; the reference is held against values that this file computes from the tree it drew, which
no parser has seen; the kernel against the reference (tools/run_cases.py), for rows of any width,
those among them that are read in parts.
"""

import argparse
import importlib
import math
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from kernels.lib import draws, numbers  # noqa: E402

TYPES = ("fp32", "fp32", "fp16", "bf16")
WIDTHS = (96, 512, 4096, 20480)  # the last is read in parts where it is reduced
MOST = 16.0  # of a value's magnitude, about; larger ones are brought back
FORMS = (
    "add", "sub", "mul", "mul", "div", "neg", "exp", "log", "tanh", "erf", "sigmoid", "sqrt",
    "rsqrt", "abs", "min", "max", "where", "cast", "sum", "mean", "row_max", "silu", "gelu",
    "gelu_tanh", "relu", "softcap",
)  # fmt: skip

erf = np.vectorize(math.erf, otypes=[np.float64])


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


UNARY = {
    "tanh": np.tanh,
    "erf": erf,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: x * (1 + erf(x / math.sqrt(2))) / 2,
    "gelu_tanh": gelu_tanh,
    "relu": lambda x: np.where(x > 0, x, 0),
    "abs": np.abs,
}
BOUNDED = {"tanh": 1.0, "erf": 1.0, "sigmoid": 1.0}


class Tree:
    """An expression: its text with every operation in parentheses, its value from those of its
    operands, about how large it is, and whether it is one number a row."""

    def __init__(self, text, value, size, varies=True):
        self.text, self.value, self.size, self.varies = text, value, size, varies


class Drawing:
    def __init__(self, seed, number):
        self.chance = draws.Choices("map", seed, number)
        self.n_cast = 0

    def tree(self, operands, depth):
        of = self.chance.of
        if depth == 0 or self.chance.chance(0.12):
            return self.leaf(operands)
        a = self.tree(operands, depth - 1)
        tree = self.form(of(*FORMS), a, operands, depth)
        if tree.size > MOST:
            return Tree(f"tanh({tree.text})", lambda v: np.tanh(tree.value(v)), 1.0, tree.varies)
        return tree

    def leaf(self, operands):
        if self.chance.chance(0.15):
            number = self.chance.between(1, 64) / 16
            return Tree(f"{number}", lambda v: np.float64(number), number, False)
        name = self.chance.of(*operands)
        return Tree(name, lambda v: v[name], 5.0)

    def form(self, form, a, operands, depth):
        if form in UNARY:
            text, size = f"{form}({a.text})", BOUNDED.get(form, a.size)
            return Tree(text, lambda v: UNARY[form](a.value(v)), size, a.varies)
        if form == "neg":
            return Tree(f"(-{a.text})", lambda v: -a.value(v), a.size, a.varies)
        if form == "exp":
            text = f"exp(min({a.text}, 1.5))"
            return Tree(text, lambda v: np.exp(np.minimum(a.value(v), 1.5)), 4.5, a.varies)
        if form in ("log", "sqrt", "rsqrt"):
            function = {"log": np.log, "sqrt": np.sqrt, "rsqrt": lambda x: x**-0.5}[form]
            text = f"{form}((abs({a.text}) + 0.5))"
            return Tree(text, lambda v: function(np.abs(a.value(v)) + 0.5), 3.0, a.varies)
        if form == "softcap":
            cap = self.chance.of(2.0, 30.0)
            text = f"softcap({a.text}, {cap})"
            return Tree(text, lambda v: cap * np.tanh(a.value(v) / cap), min(a.size, cap), a.varies)
        if form == "cast":
            dtype = self.chance.of("fp16", "bf16", "fp32")
            text = f"{dtype}({a.text})"
            return Tree(text, lambda v: rounded(a.value(v), dtype), a.size, a.varies)
        if form in ("sum", "mean", "row_max"):
            return self.reduced(form, a, operands)
        b = self.tree(operands, depth - 1)
        varies = a.varies or b.varies
        if form == "where":
            # What is compared is exact: else a result could be either branch.
            x, least = self.chance.of(*operands), self.chance.between(-16, 16) / 16
            sign, holds = self.chance.of(("<", np.less), (">=", np.greater_equal))
            text = f"where(({x} {sign} {least}), {a.text}, {b.text})"
            return Tree(
                text,
                lambda v: np.where(holds(v[x], least), a.value(v), b.value(v)),
                max(a.size, b.size),
            )
        if form == "div":
            text = f"({a.text} / (abs({b.text}) + 1.5))"
            return Tree(text, lambda v: a.value(v) / (np.abs(b.value(v)) + 1.5), a.size, varies)
        if form in ("min", "max"):
            function = {"min": np.minimum, "max": np.maximum}[form]
            text = f"{form}({a.text}, {b.text})"
            return Tree(
                text, lambda v: function(a.value(v), b.value(v)), max(a.size, b.size), varies
            )
        sign, function = {
            "add": ("+", np.add), "sub": ("-", np.subtract), "mul": ("*", np.multiply),
        }[form]  # fmt: skip
        size = a.size * b.size if form == "mul" else a.size + b.size
        text = f"({a.text} {sign} {b.text})"
        return Tree(text, lambda v: function(a.value(v), b.value(v)), size, varies)

    def reduced(self, form, a, operands):
        if not a.varies:
            x = self.chance.of(*operands)
            a = Tree(f"({x} + {a.text})", lambda v, a=a: v[x] + a.value(v), 5.0 + a.size)
        if form == "sum":
            # By the row's width it would grow; of a width that the text does not know.
            text = f"(sum({a.text}) / (sum(abs({a.text})) + 1.0))"

            def value(v):
                terms = wide(a, v)
                total = np.sum(terms, axis=1, keepdims=True)
                return total / (np.sum(np.abs(terms), axis=1, keepdims=True) + 1.0)

            return Tree(text, value, 1.0, False)
        name, function = {"mean": ("mean", np.mean), "row_max": ("max", np.max)}[form]
        return Tree(
            f"{name}({a.text})",
            lambda v: function(wide(a, v), axis=1, keepdims=True),
            a.size,
            False,
        )


def wide(tree, v):
    return np.broadcast_to(tree.value(v), v["shape"])


def rounded(values, dtype):
    return numbers.rounded(np.asarray(values), dtype).astype(np.float64)


class Drawn:
    """A graph of a node, or of two where the second reads what the first gives."""

    def __init__(self, seed, number):
        drawing = Drawing(seed, number)
        of, chance = drawing.chance.of, drawing.chance.chance
        self.width = WIDTHS[number % len(WIDTHS)]
        n_operands = drawing.chance.between(1, 4)
        self.values, self.lines, self.nodes = {}, [], []
        for i in range(n_operands):
            is_vector = i > 0 and chance(0.3)
            name, dtype = f"{'w' if is_vector else 'x'}{i}", of(*TYPES)
            self.values[name] = dtype
            shape = f"[{self.width}]" if is_vector else f"[T, {self.width}]"
            kind = "weight" if is_vector else "input"
            self.lines.append(f"  {kind} %{name}: {dtype}{shape}")
        operands = list(self.values)
        first = self.node(drawing, operands, "y", drawing.chance.between(1, 2))
        if chance(0.4):
            self.node(drawing, [*operands[: drawing.chance.between(1, n_operands)], first], "z", 1)
        returned = ", ".join(f"%{name}" for _, results, _ in self.nodes for name, _ in results)
        self.text = "\n".join(["graph drawn {", *self.lines, f"  return {returned}", "}", ""])

    def node(self, drawing, operands, stem, n_results):
        rows = next(name for name in operands if not name.startswith("w"))
        dtype = drawing.chance.of(self.values[rows], *TYPES)
        # What is compared with a number must be an operand of the graph, which is exact.
        trees = [drawing.tree(operands, drawing.chance.between(2, 4)) for _ in range(n_results)]
        # Each operand is read, and each result reads one.
        for name in operands:
            trees[0] = plus(trees[0], name, 0.25)
        trees = [trees[0], *(plus(tree, operands[0], 0.5) for tree in trees[1:])]
        results = [(f"{stem}{i}", dtype) for i in range(n_results)]
        body = f"({', '.join(operands)}) -> {', '.join(tree.text for tree in trees)}"
        left = ", ".join(f"%{name}: {dtype}[T, {self.width}]" for name, _ in results)
        right = ", ".join(f"%{name}" for name in operands)
        self.lines.append(f'  {left} = map {right} {{body = "{body}", dtype = {dtype}}}')
        self.nodes.append((operands, results, trees))
        for name, _ in results:
            self.values[name] = dtype
        return results[0][0]

    def results(self, arguments):
        """In the order of the graph's results, from the operands in the order of its inputs."""
        n_rows, n_cols = arguments["n_rows"], arguments["n_cols"]
        names = [name for name in self.values if name[0] in "xw"]
        v = {"shape": (n_rows, n_cols)}
        for name in names:
            value = arguments[f"{name}_ptr"].astype(np.float64)
            v[name] = value[:n_rows, :n_cols] if value.ndim == 2 else value
        for _, results, trees in self.nodes:
            given = [
                rounded(wide(tree, v), dtype)
                for tree, (_, dtype) in zip(trees, results, strict=True)
            ]
            v.update({name: value for (name, _), value in zip(results, given, strict=True)})
        return [v[name] for _, results, _ in self.nodes for name, _ in results]


def plus(tree, name, factor):
    return Tree(
        f"({tree.text} + ({factor} * {name}))",
        lambda v: tree.value(v) + factor * v[name],
        tree.size + 5.0 * factor,
    )


def written(nereid, drawn, folder):
    """The name of the kernel that the program writes for it, its file in the folder."""
    path = folder / "drawn.txt"
    path.write_text(drawn.text)
    shown = subprocess.run(
        [nereid, "inspect", "graph", path, "--generated"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if shown.returncode != 0:
        sys.exit(f"{shown.stderr}\n{drawn.text}")
    kernels = re.split(r"^# generated/(\w+)\.py\n", shown.stdout, flags=re.MULTILINE)[1:]
    if len(kernels) != 2:
        sys.exit(f"expected one kernel, got {len(kernels) // 2}:\n{shown.stdout}")
    (folder / "generated" / f"{kernels[0]}.py").write_text(kernels[1])
    return kernels[0]


def reference_differs(drawn, spec, seed):
    """Where the kernel's own reference is not what this file computes; empty where it is."""
    case = draws.draw(spec, "fp32", seed, 0)
    arguments = {
        name: numbers.from_storage(numbers.to_storage(value, case.dtypes[name]), case.dtypes[name])
        if name in case.dtypes
        else value
        for name, value in case.args.items()
    }
    with np.errstate(all="ignore"):
        wanted = drawn.results(arguments)
    got = spec.reference(arguments)
    for (name, values), want in zip(got.items(), wanted, strict=True):
        dtype = case.dtypes[name]
        have = rounded(values[: arguments["n_rows"]], dtype)
        # In float64 both come to the same, but for a value at the border between two of its type.
        off = np.abs(have - want) > 1e-9 + 1e-6 * np.abs(want)
        is_near = np.allclose(have, want, rtol=spec.tolerance[dtype], atol=spec.tolerance[dtype])
        if np.count_nonzero(off) > 0.01 * off.size or not is_near:
            return f"{spec.name} {name}: the reference is off by {np.abs(have - want).max()}"
    return ""


def run_cases(args, work, texts, which, n_cases):
    """What goes wrong in these cases of the kernels."""
    command = [sys.executable, ROOT / "tools" / "run_cases.py", "--target", args.target]
    command += ["--generated", work / "generated", "--work", work / f"cases{len(which)}"]
    command += ["--ttir", args.ttir] if args.ttir else []
    command += ["--make-only"] if args.make_only else []
    command = [str(word) for word in (*command, *which)]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    lines = ran.stdout.splitlines()
    problems = [
        f"{line}\n{texts[name[1]]}" for line in lines if (name := re.match(r"FAIL (\w+)/", line))
    ]
    holds = f"{n_cases} of {n_cases} cases hold on {args.target}"
    if ran.returncode != 0 or not (args.make_only or lines[-1:] == [holds]):
        problems.append(f"run_cases.py ended with {ran.returncode}: {lines[-1:]}")
    return problems


def main():
    parser = argparse.ArgumentParser(description="Drawn expressions against numpy.")
    parser.add_argument("nereid", type=Path)
    parser.add_argument("--n", type=int, default=20)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--random", type=int, default=0, help="drawn cases of each kernel too")
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--ttir", type=Path)
    parser.add_argument("--make-only", action="store_true", help="cases and bundle, and no run")
    parser.add_argument("--keep", type=Path, help="a folder for kernels and cases")
    args = parser.parse_args()
    print(f"seed {args.seed}, {args.n} draws", flush=True)
    work = args.keep or Path(tempfile.mkdtemp(prefix="drawn_maps"))
    (work / "generated").mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(work))
    texts, problems, n_long = {}, [], 0
    for number in range(args.n):
        drawn = Drawn(args.seed, number)
        name = written(args.nereid.resolve(), drawn, work)
        texts[name] = drawn.text
        spec = importlib.import_module(f"generated.{name}").SPEC
        n_long += "which is read in parts" in (work / "generated" / f"{name}.py").read_text()
        if problem := reference_differs(drawn, spec, args.seed):
            problems.append(f"{problem}\n{drawn.text}")
    # One written case: a drawn one may have no rows, or a single column.
    problems += run_cases(args, work, texts, ["--case", "odd"], len(texts))
    if args.random > 0:
        drawn_cases = ["--only-random", "--random", args.random, "--seed", args.seed]
        problems += run_cases(args, work, texts, drawn_cases, args.random * len(texts))
    if n_long == 0:
        problems.append("none of the kernels reads rows in parts")
    print("\n".join(problems))
    print(f"{len(texts)} kernels, {n_long} of rows in parts, {len(problems)} problems")
    if args.keep is None:
        shutil.rmtree(work)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

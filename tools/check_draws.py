"""Holds every kernel to drawing cases: by its Spec, ones that differ and that fit it."""

import sys

from repo_files import ROOT

sys.path.insert(0, str(ROOT))

from aot import cases, sources

N_CASES = 12
SEED = 0


def problems_of(name):
    try:
        spec = sources.load_spec(name)
    except (TypeError, ValueError) as error:
        yield f"kernels/{name}.py: {error}"
        return
    for target in ("cpu", "cuda:90"):
        drawn = set()
        for number in range(N_CASES):
            try:
                case, request = cases.drawn(spec, target, SEED, number)
                request.check(spec)
                outputs = cases.expected(spec, case, request)
            except Exception as error:  # of the kernel's own code: named, and the others looked at
                yield f"kernels/{name}.py: draws no case {number} for {target}: {error!r}"
                return
            values = cases.arguments(spec, case).values()
            drawn.add(tuple(v.tobytes() if hasattr(v, "tobytes") else v for v in values))
            if not outputs:
                yield f"kernels/{name}.py: {case.name} on {target} expects nothing"
        if len(drawn) < N_CASES // 2:
            yield f"kernels/{name}.py: {N_CASES} draws for {target} are {len(drawn)} cases"


def main():
    problems = [problem for name in sources.kernel_names() for problem in problems_of(name)]
    for problem in problems:
        print(problem)
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()

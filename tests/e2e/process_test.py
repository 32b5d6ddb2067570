"""What the process is: alone (no Python, no compiler), free of vendor libraries, and small."""

import json
import re
import subprocess
import sys

import nereid_cli as cli

# Of which the weights are 31.5 million; machines differ by half a million in what they count.
MAX_RESIDENT_BYTES = 54_000_000
N_CONTEXT_TOKENS = 512
FORBIDDEN_LIBRARY = re.compile(
    r"cuda|cublas|cudnn|nvrtc|nccl|libamdhip|rocblas|libtorch|libpython|blas|lapack|mkl|libtriton",
    re.IGNORECASE,
)
GENERATE = ("generate", "demo", "-p", "def fibonacci(n):", "-n", 16)


def printed_launches(text: str) -> list[tuple[str, str]]:
    """(kernel, SHA-256 of its object) of each line of --print-launches; any other line fails."""
    lines = [re.fullmatch(r"(\S+) +grid \d+x\d+x\d+  ([0-9a-f]{64})", x) for x in text.splitlines()]
    if None in lines:
        raise AssertionError(f"a line that is no launch in:\n{text}")
    return [line.groups() for line in lines]


def traced_launches(trace: dict) -> list[tuple[str, str]]:
    """(symbol, SHA-256 of the object's bytes) of each launch of a Chrome trace."""
    events = [event for event in trace["traceEvents"] if event.get("cat") == "launch"]
    return [(event["name"], event["args"]["object_sha256"]) for event in events]


def foreign(launches: list[tuple[str, str]], variants: list[dict], name: str) -> list:
    """The launches that no variant of a manifest has, by its `name` and its object."""
    known = {(variant[name], variant["object_sha256"]) for variant in variants}
    return [launch for launch in launches if launch not in known]


class Process(cli.TestCase):
    @classmethod
    def setUpClass(cls):
        # The first run compiles what is missing; from then on the bundle is complete.
        result = cli.run(*GENERATE)
        if result.returncode != 0:
            raise AssertionError(result.stderr)

    def test_starts_no_other_process(self):
        trace = self.folder / "trace"
        traced = ("strace", "-f", "-e", "trace=execve,execveat", "-o", trace)
        result = subprocess.run(
            [*map(str, traced), *cli.command(*GENERATE)], capture_output=True, text=True
        )
        self.assertEqual(result.returncode, 0, result.stderr)
        calls = [line for line in trace.read_text().splitlines() if "execve" in line]
        self.assertEqual(len(calls), 1, calls)

    def test_links_no_vendor_library(self):
        result = subprocess.run(["ldd", cli.nereid_path], capture_output=True, text=True)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("libstdc++", result.stdout)
        self.assertNotRegex(result.stdout, FORBIDDEN_LIBRARY)

    def test_maps_no_vendor_library(self):
        """Reads what is mapped in mid-generation, after everything that is loaded late."""
        long_run = cli.command("generate", "demo", "-p", "x", "-n", 2000, "--ignore-eos")
        process = subprocess.Popen(long_run, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            self.assertTrue(process.stdout.read(1), "no token came")
            with open(f"/proc/{process.pid}/maps") as maps:
                mapped = {line.split(maxsplit=5)[5].strip() for line in maps if "/" in line}
        finally:
            process.kill()
            process.communicate()
        objects = [path for path in mapped if path.endswith(".so") or ".so." in path]
        kernels = [path for path in objects if re.search(r"/objects/[0-9a-f]{64}\.so$", path)]
        self.assertTrue(kernels, "the compiled kernels are mapped")
        self.assertEqual([path for path in objects if FORBIDDEN_LIBRARY.search(path)], [])

    def test_peak_memory(self):
        """A prompt and its answer that fill 512 tokens of context."""
        line = "    value = compute(value, index) + offset\n"
        prompt = "def f(value):\n" + line * 30
        # A child of its own, since the maximum is kept over all children of a process.
        report = (
            "import json, resource, subprocess, sys;"
            "r = subprocess.run(sys.argv[1:], capture_output=True, text=True);"
            "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024;"
            "print(json.dumps([r.returncode, r.stdout, r.stderr, peak]))"
        )
        arguments = ("-p", prompt, "-n", N_CONTEXT_TOKENS, "--context", N_CONTEXT_TOKENS)
        run = cli.command("generate", "demo", *arguments, "--ignore-eos", "--json")
        parent = subprocess.run(
            [sys.executable, "-c", report, *run], capture_output=True, text=True, check=True
        )
        code, out, err, peak_bytes = json.loads(parent.stdout)
        self.assertEqual(code, 0, err)
        output = json.loads(out)["outputs"][0]
        n_tokens = len(output["prompt_ids"]) + len(output["ids"])
        self.assertGreaterEqual(n_tokens, N_CONTEXT_TOKENS - 1)
        self.assertEqual(output["finish_reason"], "length")
        print(f"peak {peak_bytes / 1e6:.1f} MB with {n_tokens} tokens")
        self.assertLess(peak_bytes, MAX_RESIDENT_BYTES)

    def test_every_launch_is_of_a_kernel_in_the_bundle(self):
        """What --print-launches says was planned, and the bytes that a trace saw the device get."""
        bundle = self.folder / "bundle"
        compiled = cli.run("compile", "demo", "--target", "cpu", "--out", bundle)
        self.assertEqual(compiled.returncode, 0, compiled.stderr)
        variants = json.loads((bundle / "manifest.json").read_text())["variants"]

        result = cli.run(*GENERATE, "--bundle", bundle, "--print-launches")
        self.assertEqual(result.returncode, 0, result.stderr)
        planned = printed_launches(result.stderr)
        self.assertEqual(foreign(planned, variants, "kernel"), [])

        trace = self.folder / "trace.json"
        steps = ("--prompt", 8, "--steps", 3, "--out", trace)
        result = cli.run("inspect", "trace", "demo", "--bundle", bundle, *steps)
        self.assertEqual(result.returncode, 0, result.stderr)
        launched = traced_launches(json.loads(trace.read_text()))
        self.assertEqual(foreign(launched, variants, "symbol"), [])
        # Both saw the prompt's step whole; the trace saw two more.
        self.assertGreater(len(planned), 8 * 5)
        self.assertGreater(len(launched), 2 * len(planned))

        # And a launch of anything else is seen: of each object, one bundle lacks it.
        for name, sha256 in set(launched):
            others = [row for row in variants if row["object_sha256"] != sha256]
            self.assertIn((name, sha256), foreign(launched, others, "symbol"))

        listing = cli.run("inspect", "bundle", bundle)
        self.assertEqual(listing.returncode, 0, listing.stderr)
        for variant in variants:
            self.assertIn(variant["kernel"], listing.stdout)
            self.assertIn(variant["source_sha256"][:8], listing.stdout)


if __name__ == "__main__":
    cli.main()

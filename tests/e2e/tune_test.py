"""Tile sizes measured on this machine: tables that the build takes, and runs that go on."""

import json
import os
import signal
import subprocess
import sys

import nereid_cli as cli

ROWS = "1,3,4"  # of which 3 and 4 are planned alike


class Tune(cli.TestCase):
    def setUp(self):
        super().setUp()
        self.out, self.state = self.folder / "tuning", self.folder / "state.jsonl"

    def arguments(self, *more, rounds=2):
        return (
            "tune", "demo", "--target", "cpu", "--kernel", "greedy", "--rows", ROWS,
            "--rounds", rounds, "--out", self.out, "--state", self.state, *more,
        )  # fmt: skip

    def test_writes_a_table_and_measures_once(self):
        planned = cli.run(*self.arguments("--dry-run"))
        self.assertEqual(planned.returncode, 0, planned.stderr)
        self.assertEqual(planned.stdout.count("n_vocab=8192"), 2, planned.stdout)
        self.assertFalse(self.state.exists())

        # A choice never takes 100 % less time: nothing is written.
        first = cli.run(*self.arguments("--min-gain", 1))
        self.assertEqual(first.returncode, 0, first.stderr)
        self.assertIn("10 choices measured now", first.stderr)
        self.assertEqual(first.stdout.count("as it is"), 2, first.stdout)
        self.assertFalse(self.out.exists())
        entries = [json.loads(line) for line in self.state.read_text().splitlines()]
        self.assertEqual(len({entry["id"] for entry in entries}), 10)
        for block in (16, 32, 64, 128, 256):
            self.assertEqual(sum(f"BLOCK={block} " in entry["what"] for entry in entries), 2)

        # As if one choice had been far quicker, and a killed run had left half a line.
        for entry in entries:
            entry["us"] = 2.0 if "BLOCK=32 " in entry["what"] else 8.0
        text = "".join(json.dumps(entry) + "\n" for entry in entries)
        self.state.write_text(text + '{"id": "12')
        old = {"when": {"n_vocab": 5}, "choice": {"BLOCK": "16"}, "note": "by hand"}
        path = self.out / "cpu" / "greedy.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"kernel": "greedy", "target": "cpu", "rows": [old]}))
        second = cli.run(*self.arguments())
        self.assertEqual(second.returncode, 0, second.stderr)
        self.assertIn("0 choices measured now", second.stderr)
        self.assertEqual(second.stdout.count("75.0 %"), 2, second.stdout)
        rows = json.loads(path.read_text())["rows"]
        self.assertIn(old, rows)
        self.assertEqual(
            [row["when"]["n_rows"] for row in rows if row != old],
            [1, [3, 4]],
        )
        for row in rows:
            if row != old:
                self.assertEqual(row["when"]["n_vocab"], 8192)
                self.assertEqual(row["when"]["sizeof(logits_ptr)"], 4)
                self.assertEqual(row["choice"]["BLOCK"], 32)
                self.assertRegex(row["note"], r"^2 us at [13] rows, 8 before; .*, 20\d\d-")
        again = path.read_text()
        self.assertEqual(cli.run(*self.arguments()).returncode, 0)
        self.assertEqual(path.read_text(), again)

    def test_goes_on_after_an_interrupt(self):
        # Seconds a launch, so that the second of the two is still measured when the first is told.
        process = subprocess.Popen(
            cli.command(*self.arguments("--min-gain", 1, rounds=60)),
            stderr=subprocess.PIPE,
            text=True,
        )
        first = next(line for line in process.stderr if not line.startswith("nereid: compiling"))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=cli.TIMEOUT_S)
        self.assertRegex(first, r"^5/10 greedy .*, 1 rows: ")
        self.assertEqual(process.returncode, 1, errors)
        self.assertIn("stopped; what was measured is kept in", errors)
        self.assertEqual(len(self.state.read_text().splitlines()), 5)
        self.assertFalse(self.out.exists())
        finished = cli.run(*self.arguments("--min-gain", 1))
        self.assertEqual(finished.returncode, 0, finished.stderr)
        self.assertIn("\n5 choices measured now", finished.stderr)
        self.assertEqual(len(self.state.read_text().splitlines()), 10)

    def test_measures_what_another_machine_compiled(self):
        bundle = self.folder / "bundle"
        compiled = cli.run(*self.arguments("--compile-to", bundle))
        self.assertEqual(compiled.returncode, 0, compiled.stderr)
        self.assertFalse(self.state.exists())
        manifest = json.loads((bundle / "manifest.json").read_text())
        blocks = {
            json.loads(variant["key"])["constexprs"]["BLOCK"]
            for variant in manifest["variants"]
            if variant["kernel"] == "greedy"
        }
        self.assertEqual(blocks, {16, 32, 64, 128, 256})
        elsewhere = os.environ | {"NEREID_PYTHON": "/bin/false", "XDG_CACHE_HOME": str(self.folder)}
        measured = cli.run(*self.arguments("--min-gain", 1, "--bundle", bundle), env=elsewhere)
        self.assertEqual(measured.returncode, 0, measured.stderr)
        self.assertIn("10 choices measured now", measured.stderr)
        # A choice that did not compile there is no choice here; what is chosen now must be there.
        for block, variants in ((32, "left out"), (64, "lacks 1 of the")):
            changed = manifest | {
                "variants": [v for v in manifest["variants"] if f'"BLOCK":{block},' not in v["key"]
                             and f'"BLOCK":{block}}}' not in v["key"]]
            }  # fmt: skip
            (bundle / "manifest.json").write_text(json.dumps(changed))
            again = cli.run(
                *self.arguments("--min-gain", 1, "--fresh", "--bundle", bundle), env=elsewhere
            )
            self.assertIn(variants, again.stderr)

    def test_leaves_out_what_does_not_compile(self):
        compiler = self.folder / "python"
        compiler.write_text(
            "#!/bin/sh\nfor argument; do\n"
            '  case "$argument" in *nereid-requests-*) requests=$argument ;; esac\ndone\n'
            'if grep -q \'"BLOCK":32,\\|"BLOCK":32}\' "$requests"; then exit 1; fi\n'
            f'exec "{sys.executable}" "$@"\n'
        )
        compiler.chmod(0o755)
        # A cache of its own: what is compiled elsewhere is found without asking.
        changed = os.environ | {"NEREID_PYTHON": str(compiler), "XDG_CACHE_HOME": str(self.folder)}
        result = cli.run(*self.arguments("--min-gain", 1), env=changed)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("since they do not compile: 1 choices", result.stderr)
        entries = [json.loads(line) for line in self.state.read_text().splitlines()]
        for entry in entries:
            self.assertEqual(entry["us"] < 0, "BLOCK=32 " in entry["what"], entry)
        # Where nothing compiles the reason is told.
        compiler.write_text("#!/bin/sh\necho no compiler today >&2\nexit 1\n")
        changed["XDG_CACHE_HOME"] = str(self.folder / "other")
        self.expect_error(cli.run(*self.arguments("--fresh"), env=changed), "no compiler today")

    def test_plans_for_devices_that_are_elsewhere(self):
        planned = cli.run("tune", "demo", "--target", "cuda:90", "--dry-run", "--rows", "2,512")
        self.assertEqual(planned.returncode, 0, planned.stderr)
        self.assertIn("linear_tiled", planned.stdout)
        self.assertRegex(planned.stdout, r"linear_gemv .*640 x 384 .*ROWS=2")

    def test_refuses_what_cannot_be_measured_here(self):
        tune = ("tune", "demo", "--state", self.state, "--out", self.out)
        self.expect_error(cli.run(*tune, "--target", "hip:gfx942"), "leaves a choice on hip:gfx942")
        result = cli.run(*tune, "--target", "cuda:42")
        self.expect_error(result, "--target cuda:42: expected a device of this target here")
        self.expect_error(
            cli.run(*tune, "--target", "cpu", "--kernel", "rms_norm"), "rms_norm", "greedy"
        )
        self.expect_error(cli.run(*tune, "--target", "cpu", "--rows", 4096), "4096", "2048")


if __name__ == "__main__":
    cli.main()

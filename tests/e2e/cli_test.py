"""The command line as documented: help, exit codes, the two streams, the fields of --json."""

import json
import math
import re

import nereid_cli as cli

COMMANDS = ("generate", "score", "quantize", "tokenize", "compile", "inspect")
PROMPT = "def fibonacci(n):"


class Help(cli.TestCase):
    def test_help(self):
        result = cli.run("--help")
        self.assertEqual(result.returncode, 0, result.stderr)
        for command in COMMANDS:
            self.assertIn(command, result.stdout)

    def test_help_of_each_command(self):
        for command in COMMANDS:
            with self.subTest(command=command):
                result = cli.run(command, "--help")
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertIn(command, result.stdout)
                self.assertGreater(len(result.stdout.splitlines()), 3)

    def test_version(self):
        result = cli.run("--version")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(result.stdout, r"\d+\.\d+\.\d+")


class Usage(cli.TestCase):
    def test_usage_errors_exit_with_2(self):
        for arguments in (
            (),
            ("fly",),
            ("generate",),
            ("generate", "demo", "--no-such-option"),
            ("generate", "demo", "-p", "x", "-n", "many"),
            ("generate", "demo", "-p", "x", "-n", "-1"),
            ("generate", "demo", "-p", "x", "--temperature", "-1"),
            ("generate", "demo", "-p", "x", "--top-p", "2"),
            ("score", "demo"),
            ("compile", "demo"),
            ("inspect",),
        ):
            with self.subTest(arguments=arguments):
                result = cli.run(*arguments)
                self.assertEqual(result.returncode, 2, result.stderr)
                self.assertTrue(result.stderr.strip())
                self.assertEqual(result.stdout, "")

    def test_values_out_of_range(self):
        """Of every option that takes a number, in one short line that names it."""
        numbers = ("", "x", "nan", "inf", "1e999", "9" * 400, "0x10", "1.5.2")
        generate = ("generate", "demo", "-p", "x")
        for command, option, values in (
            (generate, "--temperature", ("-1", "-0.001")),
            (generate, "--top-k", ("-2", "2147483648", "1.5")),
            (generate, "--top-p", ("0", "-0.1", "1.001")),
            (generate, "--min-p", ("-0.1", "1.001")),
            (generate, "--repetition-penalty", ("0", "-1")),
            (generate, "--presence-penalty", ("3.5e38", "-3.5e38")),
            (generate, "--frequency-penalty", ("3.5e38", "-3.5e38")),
            (generate, "--max-tokens", ("-1", "9223372036854775808", "1.5")),
            (generate, "--seed", ("-1", "18446744073709551616", "1.5")),
            (generate, "--context", ("-1", "4294967297")),
            (generate, "--max-batch-tokens", ("-1", "65537")),
            (generate, "--max-mixed-tokens", ("-1", "65537")),
            (generate, "--answers", ("0", "129")),
            (generate, "--min-tokens", ("-1",)),
            (generate, "--logprobs", ("-1", "21")),
            (generate, "--prompt-logprobs", ("-1", "21")),
            (generate, "--batch-size", ("0", "-1", "4294967297")),
            (generate, "--kv-blocks", ("-1", "4294967297")),
            (generate, "--threads", ("-1", "1025", "4294967297")),
            (("compile", "demo", "--target", "cpu", "--out", "x"), "--jobs", ("-1",)),
            (("bench", "e2e", "demo"), "--batch", ("0", "-1")),
            (("bench", "e2e", "demo"), "--seed", ("-1", "18446744073709551616")),
            (("bench", "kernels", "demo"), "--rows", ("0", "1,0", "1,x")),
            (("bench", "serve", "demo"), "--at-once", ("0", "-1")),
            (("bench", "serve", "demo"), "--rate", ("-1",)),
            (("tune", "demo", "--target", "cpu"), "--min-gain", ("-1", "2")),
            (("inspect", "trace", "demo"), "--steps", ("0",)),
        ):
            for value in (*values, *numbers):
                with self.subTest(option=option, value=value):
                    result = cli.run(*command, f"{option}={value}")
                    self.expect_usage_error(result, option)

    def test_values_at_the_ends_of_their_ranges(self):
        for option, value in (
            ("--top-k", "-1"),
            ("--top-k", "0"),
            ("--temperature", "0"),
            ("--top-p", "1"),
            ("--seed", "18446744073709551615"),
        ):
            with self.subTest(option=option, value=value):
                result = cli.run("generate", "demo", "-p", "x", "-n", 1, option, value)
                self.assertEqual(result.returncode, 0, result.stderr)
        result = cli.run("generate", "demo", "-p", "x", "-p", "y", "--seed", str(2**64 - 1))
        self.expect_usage_error(result, "seed")

    def test_unknown_device_and_target(self):
        self.expect_error(cli.run("generate", "demo", "-p", "x", "--device", "abacus"), "abacus")
        out = self.folder / "out"
        compiled = cli.run("compile", "demo", "--target", "abacus", "--out", out)
        self.expect_error(compiled, "abacus")


class Generate(cli.TestCase):
    def test_text_alone_on_stdout(self):
        result = cli.run("generate", "demo", "-p", PROMPT, "-n", 16, "--stats")
        self.assertEqual(result.returncode, 0, result.stderr)
        out = cli.run_json("generate", "demo", "-p", PROMPT, "-n", 16)["outputs"][0]
        self.assertIn(out["text"], result.stdout)
        self.assertNotIn("tokens/s", result.stdout)
        self.assertIn("tokens/s", result.stderr)

    def test_json(self):
        prompts = ("def a():", "class B:")
        arguments = [part for prompt in prompts for part in ("-p", prompt)]
        out = cli.run_json("generate", "demo", *arguments, "-n", 12)
        self.assertTrue({"model", "device", "mode", "outputs", "stats"} <= out.keys(), out.keys())
        self.assertEqual([output["prompt"] for output in out["outputs"]], list(prompts))
        for output in out["outputs"]:
            fields = {"prompt", "prompt_ids", "ids", "text", "finish_reason"}
            self.assertTrue(fields <= output.keys(), output.keys())
            self.assertIn(output["finish_reason"], ("length", "stop"))
            self.assertLessEqual(len(output["ids"]), 12)
        for name in (
            "ttft_ms",
            "itl_ms_median",
            "itl_ms_p99",
            "prefill_tokens_per_s",
            "decode_tokens_per_s",
        ):
            self.assertGreater(out["stats"][name], 0, name)
        memory = out["stats"]["device_memory"]
        peak = memory.pop("peak_bytes")
        self.assertEqual(sum(memory.values()), peak)
        for name, n_bytes in memory.items():
            self.assertGreater(n_bytes, 0, name)
        # Of the demo: its file is its weights, but for a header.
        file_bytes = sum(path.stat().st_size for path in cli.DEMO.glob("*.safetensors"))
        self.assertAlmostEqual(memory["weight_bytes"], file_bytes, delta=0.01 * file_bytes)

    def test_prompt_from_a_file(self):
        prompt = self.folder / "prompt.txt"
        prompt.write_text("def from_file():\n")
        out = cli.run_json("generate", "demo", "-f", prompt, "-n", 4)["outputs"][0]
        self.assertEqual(out["prompt"], "def from_file():\n")

    def test_prompts_from_a_jsonl_file(self):
        prompts = ["def a():", "naïve = '日本'\n"]
        path = self.folder / "prompts.jsonl"
        path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
        outputs = cli.run_json("generate", "demo", "-f", path, "-n", 4)["outputs"]
        self.assertEqual([out["prompt"] for out in outputs], prompts)

    def test_stop_string_ends_and_is_left_out(self):
        free = cli.run_json("generate", "demo", "-p", PROMPT, "-n", 64)["outputs"][0]
        self.assertIn("return", free["text"])
        out = cli.run_json("generate", "demo", "-p", PROMPT, "-n", 64, "--stop", "return")
        out = out["outputs"][0]
        self.assertEqual(out["finish_reason"], "stop")
        self.assertEqual(out["text"], free["text"].split("return")[0])

    def test_zero_tokens(self):
        out = cli.run_json("generate", "demo", "-p", PROMPT, "-n", 0)["outputs"][0]
        self.assertEqual(out["ids"], [])

    def test_one_thread_gives_the_same(self):
        arguments = ("generate", "demo", "-p", PROMPT, "-n", 32)
        many = cli.run_json(*arguments)["outputs"]
        self.assertEqual(cli.run_json(*arguments, "--threads", 1)["outputs"], many)


class Score(cli.TestCase):
    def test_json(self):
        ids = [8183, 315, 7586, 6821, 510, 305]
        out = cli.run_json("score", "demo", "--ids", cli.joined(ids))
        self.assertEqual(out["tokens"], len(ids))
        self.assertEqual(len(out["logprobs"]), len(ids) - 1)
        self.assertTrue(all(logprob <= 0 for logprob in out["logprobs"]))
        self.assertAlmostEqual(out["nll"], -sum(out["logprobs"]) / len(out["logprobs"]), places=4)
        self.assertAlmostEqual(
            out["perplexity"], math.exp(out["nll"]), delta=1e-3 * out["perplexity"]
        )

    def test_file(self):
        text = self.folder / "text.py"
        text.write_text("def add(a, b):\n    return a + b\n")
        from_file = cli.run_json("score", "demo", "-f", text)
        ids = cli.run_json("tokenize", "demo", "-f", text)["ids"]
        self.assertIn(from_file["tokens"], (len(ids), len(ids) + 1))
        self.assertLess(from_file["nll"], 4)

    def test_logits(self):
        out = self.folder / "logits.safetensors"
        cli.run_json("score", "demo", "--ids", "8183,315,7586", "--logits", out)
        tensors = cli.read_safetensors(out)
        self.assertEqual(list(tensors), ["logits"])
        dtype, logits = tensors["logits"]
        self.assertEqual((dtype, logits.shape), ("F32", (3, 8192)))


class Tokenize(cli.TestCase):
    def test_json(self):
        out = cli.run_json("tokenize", "demo", "-p", "Hello world")
        self.assertEqual(out, {"ids": [6968, 325, 4741], "text": "Hello world"})

    def test_text(self):
        result = cli.run("tokenize", "demo", "-p", "Hello world")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("6968", result.stdout)


class Inspect(cli.TestCase):
    def test_model(self):
        result = cli.run("inspect", "model", "demo")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("8192", result.stdout)
        self.assertIn("llama", result.stdout.lower())

    def test_model_without_weights(self):
        for name in ("llama3-8b", "granite-8b", "llama3.2-1b"):
            with self.subTest(name=name):
                result = cli.run("inspect", "model", cli.ROOT / "configs" / name)
                self.assertEqual(result.returncode, 0, result.stderr)

    def test_plan(self):
        result = cli.run("inspect", "plan", "demo")
        self.assertEqual(result.returncode, 0, result.stderr)
        for kernel in ("rms_norm", "rope"):
            self.assertIn(kernel, result.stdout)

    def test_plan_shows_a_layer_and_a_reason_once_and_fits_a_terminal(self):
        for model in ("demo", "llama3-8b-shape"):
            for target in ("cpu", "cuda:90"):
                with self.subTest(model=model, target=target):
                    result = cli.run("inspect", "plan", model, "--target", target)
                    self.assertEqual(result.returncode, 0, result.stderr)
                    lines = result.stdout.splitlines()
                    self.assertLessEqual(max(map(len, lines)), 120)
                    self.assertLess(len(lines), 50)
                    n_layers = 8 if model == "demo" else 32
                    self.assertIn(f"\n{n_layers} x, 5 launches each: ", result.stdout)
                    self.assertEqual(result.stdout.count("rope_attention"), 1)
                    reasons = [line for line in lines if line.startswith("[")]
                    self.assertEqual(len(reasons), len(set(reasons)))
                    self.assertGreater(len(reasons), 0)

    def test_plan_with_choices_says_the_reasons_in_full(self):
        plan = ("inspect", "plan", "llama3-8b-shape", "--target", "cuda:90")
        short, long = cli.run(*plan), cli.run(*plan, "--choices")
        self.assertIn("...\n", short.stdout)
        self.assertIn("--choices", short.stdout)
        self.assertNotIn("...\n", long.stdout)
        self.assertRegex(long.stdout, r"BLOCK_N=\d+ [^\[]*warps=\d+\s+stages=\d+")
        self.assertLessEqual(max(map(len, long.stdout.splitlines())), 120)

    def test_measured_plan_has_a_time_for_each_launch(self):
        result = cli.run("inspect", "plan", "demo", "--measure")
        self.assertEqual(result.returncode, 0, result.stderr)
        times = re.findall(r" \d+x\d+x\d+ +[\d.]+ +(\S+) +(\S+)  \[", result.stdout)
        self.assertGreater(len(times), 15)
        # Of a few bytes one of them may be 0.0.
        for least_us, measured_us in times:
            self.assertGreaterEqual(float(least_us), 0)
            self.assertGreaterEqual(float(measured_us), 0)
        n_timed = sum(float(measured_us) > 0 for _, measured_us in times)
        self.assertGreater(n_timed, len(times) / 2)

    def test_shapes_of_well_known_models(self):
        paths = list((cli.ROOT / "configs").iterdir())
        for path in paths:
            with self.subTest(name=path.name):
                named = cli.run("inspect", "plan", f"{path.name}-shape", "--target", "cuda:90")
                self.assertEqual(named.returncode, 0, named.stderr)
                given = cli.run("inspect", "plan", path, "--target", "cuda:90")
                self.assertEqual(*(run.stdout.split("\n", 1)[1] for run in (named, given)))
        names = [f"{path.name}-shape" for path in paths]
        self.expect_error(cli.run("inspect", "plan", "llama9-shape"), "llama9-shape", *names)
        no_weights = cli.run("generate", "llama3-8b-shape", "-p", "x", "-n", 1)
        self.expect_error(no_weights, "model.safetensors")

    def test_prompt_that_writes_what_is_put_before_it(self):
        plain = cli.run_json("generate", "demo", "-p", "def f():", "-n", 4)["outputs"][0]
        start = cli.run_json("tokenize", "demo", "--special", "-p", "")["text"]
        self.assertTrue(start)
        written = cli.run("generate", "demo", "-p", start + "def f():", "-n", 4, "--json")
        self.assertEqual(written.returncode, 0, written.stderr)
        self.assertEqual(json.loads(written.stdout)["outputs"][0]["ids"], plain["ids"])
        self.assertIn(start, written.stderr)
        self.assertEqual(len(written.stderr.splitlines()), 1)


if __name__ == "__main__":
    cli.main()

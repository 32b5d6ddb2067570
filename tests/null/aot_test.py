"""The ahead-of-time driver without a GPU: expressions, choices, requests, the cache, bundles."""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import re
import shutil
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from aot import cases, export, request, sources
from aot import compile as driver
from aot.cache import ObjectCache, digest
from aot.targets import cpu
from aot.targets.common import CompileError
from kernels import expr
from kernels.lib import draws
from kernels.lib.paged_cases import HEAD_DIMS


class Expressions(unittest.TestCase):
    def test_values(self):
        names = {"n": 77, "BLOCK": 16, "flag": 0}
        for text, value in {
            "cdiv(n, BLOCK) * 2 - 1": 9,
            "next_pow2(n) + next_pow2(0) + next_pow2(64)": 128 + 1 + 64,
            "n % BLOCK == 0 or not flag": 1,
            "n and BLOCK": 1,
            "3 if n >= 100 else 4 if n > 70 else 5": 4,
            "min(n, 5) * max(-n, 2) // 3": 3,
            "sizeof(w) * n": 154,
            "typeof(w) == typeof(x)": 0,
        }.items():
            known = {**names, "typeof(w)": 1, "typeof(x)": 3}
            self.assertEqual(expr.evaluate(text, known, {"w": 2}), value, text)

    def test_outside_the_grammar(self):
        for text in ("n ** 2", "n / 2", "f(n)", "1 < n < 3", "n.x", "'a'", "sizeof(x)", "typeof(x)",
                     "m", "n +", "True", "cdiv(n)", "[n]", "1.5"):  # fmt: skip
            with self.assertRaises(expr.ExprError, msg=text):
                expr.evaluate(text, {"n": 1}, {})

    def test_names(self):
        self.assertEqual(expr.names("cdiv(n, B) * sizeof(w_ptr)"), ({"n", "B"}, {"w_ptr"}))
        self.assertEqual(expr.names("typeof(x) == typeof(w)"), (set(), {"x", "w"}))


class Kernels(unittest.TestCase):
    def test_export_is_complete_and_stable(self):
        exported = export.export()
        self.assertEqual(tuple(exported["kernels"]), sources.kernel_names())
        folders = (sources.kernels_dir(), sources.kernels_dir() / "attention_designs")
        files = {p.stem for folder in folders for p in folder.glob("*.py")}
        files -= {"__init__", "spec", "expr", "interface"}
        self.assertEqual(set(sources.kernel_names()), files)
        for name, spec in exported["kernels"].items():
            self.assertEqual(spec["name"], name)
            self.assertRegex(spec["source_sha256"], "^[0-9a-f]{64}$")
        self.assertEqual(json.dumps(exported), json.dumps(export.export()))

    def test_a_launch_has_one_array_of_counters(self):
        """All counters of a plan are the same memory: two of one launch would be each other."""
        for name in sources.kernel_names():
            counters = [p.name for p in sources.load_spec(name).params if p.of == "counter"]
            self.assertLessEqual(len(counters), 1, name)

    def test_helpers_are_part_of_a_kernel(self):
        names = {path.name for path in sources.kernel_sources("sample")}
        self.assertLessEqual({"sample.py", "philox.py", "select.py", "spec.py"}, names)

    def test_choices(self):
        spec = sources.load_spec("linear_gemv")
        sizes = {"n_out": 100, "n_in": 384, "w_width": 384, "n_groups": 0}
        given = {"HAS_BIAS": 1, "HAS_NORM": 0, "HAS_RESIDUAL": 0, "GATED": 0, "ROWS": 2}
        given |= {"HAS_SCALE": 0, "HAS_ZERO": 0}
        types = {"x_ptr": "fp32", "w_ptr": "fp16", "y_ptr": "fp32", "bias_ptr": "fp16"}
        constexprs, n_warps, _ = request.choose(spec, "cpu", sizes, given, types)
        self.assertEqual(constexprs["EVEN_K"], int(384 % constexprs["BLOCK_K"] == 0))
        self.assertEqual(n_warps, 1)
        table = {"rows": [
            {"when": {"n_in": [1, 383]}, "choice": {"BLOCK_K": 8}},
            {"when": {"sizeof(w_ptr)": 4}, "choice": {"BLOCK_K": 8}},
            {"when": {"n_in": 384, "ROWS": 2}, "choice": {"BLOCK_K": "n_in // 3"}},
        ]}  # fmt: skip
        constexprs, _, _ = request.choose(spec, "cpu", sizes, given, types, table)
        self.assertEqual(constexprs["BLOCK_K"], 128)

    def test_spaces_are_read_with_care(self):
        spec = sources.load_spec("linear_gemv")
        self.assertEqual(spec.to_json()["space"]["cpu"].keys(), spec.space["cpu"].keys())
        for space in (
            {"cpu": {"ROWS": (1,)}},  # the planner's, not ours
            {"cpu": {"BLOCK_N": ()}},
            {"cpu": {"BLOCK_N": 4}},
            {"cpu": {"BLOCK_N": ("n_rows",)}},  # not known when planning
            {"cpu": {"BLOCK_N": (4,), "where": "BLOCK <= n_out"}},
            {"tpu": {"BLOCK_N": (4,)}},
        ):
            with self.assertRaises(ValueError, msg=space):
                dataclasses.replace(spec, space=space)

    def test_every_tuned_row_names_its_kernel(self):
        for path in sorted((sources.ROOT / "tuning").glob("*/*.json")):
            table = json.loads(path.read_text())
            spec = sources.load_spec(path.stem)
            self.assertEqual(table["kernel"], spec.name, path)
            self.assertEqual(table["target"].replace(":", "-"), path.parent.name)
            for row in table["rows"]:
                for name in row["when"]:
                    spec.param(name.removeprefix("sizeof(").removesuffix(")"))
                self.assertLessEqual(set(row["choice"]), set(spec.default["cpu"]), path)

    def test_attention_reference(self):
        """The reference of attention against a loop that shares nothing with it."""
        import numpy as np

        spec = sources.load_spec("attention_decode")
        case = next(c for c in spec.cases("fp32") if c.name == "window")
        asked = cases.request_of(spec, case, "cpu")
        got = cases.expected(spec, case, asked)["out_ptr"]
        a = cases.arguments(spec, case)
        dim, block = asked.constexprs["HEAD_DIM"], asked.constexprs["BLOCK_TOKENS"]
        seq, head = 1, 3
        context = int(a["context_lens_ptr"][seq])
        q = a["q_ptr"][seq, head * dim : (head + 1) * dim]
        weights, values = [], []
        for j in range(max(0, context - a["window"]), context):
            page = a["block_tables_ptr"][seq, j // block]
            kv = head // (a["n_heads"] // a["n_kv_heads"])
            weights.append(np.exp(float(q @ a["k_cache_ptr"][page, kv, j % block]) * a["scale"]))
            values.append(a["v_cache_ptr"][page, kv, j % block])
        want = np.average(values, axis=0, weights=weights)
        np.testing.assert_allclose(
            got[seq, head * dim : (head + 1) * dim], want, rtol=1e-4, atol=1e-5
        )


class Drawn(unittest.TestCase):
    """What kernels/lib/draws.py promises; that every kernel draws is tools/check_draws.py's."""

    @staticmethod
    def drawn(kernel, number, seed=3, target="cpu"):
        return cases.drawn(sources.load_spec(kernel), target, seed, number)

    def test_a_case_is_a_function_of_seed_and_number(self):
        def bytes_of(case):
            return {k: v.tobytes() for k, v in case.args.items() if hasattr(v, "tobytes")}

        for kernel in ("rms_norm", "attention_prefill", "sample"):
            first, again = (self.drawn(kernel, 17)[0] for _ in range(2))
            self.assertEqual(bytes_of(first), bytes_of(again), kernel)
            for number, seed in ((18, 3), (17, 4)):
                other = self.drawn(kernel, number, seed)[0]
                self.assertNotEqual(bytes_of(first), bytes_of(other), kernel)
            named = cases.all_cases("cpu", [kernel], case_name="random_3_17")
            self.assertEqual([bytes_of(case) for _, case, _ in named], [bytes_of(first)])

    def test_many_cases_are_few_compilations(self):
        for kernel in ("rms_norm", "attention_decode", "linear_gemv", "silu_mul"):
            keys = {self.drawn(kernel, number)[1].key for number in range(60)}
            self.assertLessEqual(len(keys), draws.N_VARIANTS + 4, kernel)
            self.assertGreater(len(keys), 3, kernel)

    def test_sizes_reach_their_borders(self):
        drawn = [self.drawn("attention_decode", number)[0] for number in range(60)]
        contexts = {int(n) for case in drawn for n in case.args["context_lens_ptr"]}
        self.assertLessEqual({0, 1, 15, 16, 17, 63, 64, 65}, contexts)
        dims = {case.constexprs["HEAD_DIM"] for case in drawn}
        self.assertEqual(dims, set(HEAD_DIMS))

    def test_a_choice_is_the_default_or_of_the_space(self):
        blocks = {self.drawn("linear_skinny", n)[1].constexprs["BLOCK_N"] for n in range(24)}
        self.assertIn(64, blocks)
        self.assertGreater(len(blocks), 1)
        self.assertLessEqual(blocks, {16, 32, 64, 128})


class Bundles(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        spec = sources.load_spec("scale")
        self.requests = [
            cases.request_of(spec, case, "cuda:90")
            for case in spec.cases("fp16")
            if case.name in ("logits", "widen")
        ]
        self.target = driver.Target("cuda:90")
        self.cache = ObjectCache("cubin", self.folder / "cache")

    def compile(self, requests):
        with contextlib.redirect_stderr(io.StringIO()) as said:
            rows, failures = driver.compile_all(requests, self.target, jobs=1, cache=self.cache)
        return rows, failures, said.getvalue()

    def test_key_is_canonical(self):
        key = self.requests[0].key
        again = request.Request.parse(json.dumps(json.loads(key), indent=2))
        self.assertEqual(again.key, key)
        self.assertNotIn(" ", key)

    def test_refused(self):
        good = json.loads(self.requests[0].key)
        for change, words in (
            ({"kernel": "nothing"}, "no kernel nothing"),
            ({"args": {**good["args"], "more": "i32"}}, "more"),
            ({"args": {**good["args"], "alpha": "i32"}}, "alpha is i32"),
            ({"constexprs": {}}, "constexprs"),
            ({"options": {"speed": 1}}, "speed"),
        ):
            with self.subTest(words):
                try:
                    bad = request.Request.parse(json.dumps({**good, **change}))
                except request.RequestError as error:
                    self.assertIn(words, str(error))
                    continue
                rows, failures, _ = self.compile([bad])
                self.assertEqual((rows, len(failures)), ([], 1))
                self.assertIn(words, failures[0][1])

    def test_programmatic(self):
        spec = sources.load_spec("linear_gemv")
        for pdl in (0, 2):
            constexprs = {p.name: 0 for p in spec.params if p.role == "constexpr"} | {"PDL": pdl}
            key = request.Request("linear_gemv", {}, constexprs, 4, 1, {}).key
            self.assertIs(driver.is_programmatic(key), pdl > 0)

    def test_operand_layout(self):
        # kernels/lib/mma.py is right only where a lane loads what the matrix units want of it.
        found = (
            r for spec, case, r in cases.all_cases("cuda:90", ["linear_gemv"])
            if case.name == "half"
        )  # fmt: skip
        folder = self.folder / "keep"
        self.target.compile(next(found), folder)
        text = (folder / "linear_gemv.ttgir").read_text()
        layout = "sizePerThread = [1, 2], threadsPerWarp = [8, 4], warpsPerCTA = [4, 1]"
        name = next(line.split(" ")[0] for line in text.splitlines() if layout in line)
        loads = [line for line in text.splitlines() if "tt.load" in line and "ptr<i64>" in line]
        self.assertGreater(len(loads), 5)
        for line in loads:
            self.assertRegex(line, rf"tensor<32x8x!tt.ptr<i64>, {name}>")

    def test_nothing_is_read_before_the_wait(self):
        # A kernel that starts early may read what the one before writes behind its wait only: a
        # pipelined loop begins to read above itself.
        spec = sources.load_spec("linear_skinny")
        case = next(case for case in spec.cases("fp16") if case.name == "half_residual")
        asked = cases.request_of(spec, case, "cuda:90")
        self.assertEqual((asked.constexprs["PDL"], asked.constexprs["USE_DESCRIPTORS"]), (4, 1))
        folder = self.folder / "keep"
        self.target.compile(asked, folder)
        text = (folder / "linear_skinny.ptx").read_text()
        wait, start = (text.index(f"griddepcontrol.{n}") for n in ("wait", "launch_dependents"))
        reads = [m.start() for m in re.finditer(r"cp\.async\.bulk\.tensor|ld\.global", text)]
        self.assertGreater(len(reads), 2)
        self.assertGreater(min(reads), wait)
        self.assertGreater(start, text.rindex("wgmma.mma_async"))

    def test_skinny_on_hopper(self):
        spec = sources.load_spec("linear_skinny")
        case = next(case for case in spec.cases("fp16") if case.name == "i8_shared")
        asked = cases.request_of(spec, case, "cuda:90")
        self.assertEqual((asked.constexprs["HOPPER"], asked.constexprs["PDL"]), (1, 3))
        folder = self.folder / "keep"
        row, _ = self.target.compile(asked, folder)
        self.assertLessEqual(row["registers"], 128)  # of 65536 a multiprocessor, for two programs
        # What products under way read in registers stays there until they are waited for.
        text = (folder / "linear_skinny.ttgir").read_text()
        waits = re.findall(r"warp_group_dot_wait ([^{]+)\{", text)
        self.assertEqual([len(operands.split(",")) for operands in waits], [3, 3])
        # Only weights are read before the wait: the x of the first steps comes behind it.
        text = (folder / "linear_skinny.ptx").read_text()
        copies = [m.start() for m in re.finditer(r"cp\.async\.bulk\.tensor", text)]
        wait = text.index("griddepcontrol.wait", copies[0])
        self.assertEqual((sum(at < wait for at in copies), len(copies)), (1, 6))

    def test_tensor_maps(self):
        spec = sources.load_spec("linear_tiled")
        case = next(case for case in spec.cases("fp16") if case.name == "half")
        asked = cases.request_of(spec, case, "cuda:90")
        self.assertEqual(asked.constexprs["USE_DESCRIPTORS"], 1)
        row, _ = self.target.compile(asked, None)
        names = [name for name, kind in row["args"] if kind == "tensor_map"]
        self.assertEqual(names, ["x_ptr", "w_ptr"])
        at = row["args"].index(["x_ptr", "tensor_map"])
        self.assertEqual(
            row["args"][at + 1 : at + 5],
            [["x_ptr.shape0", "i32"], ["x_ptr.shape1", "i32"],
             ["x_ptr.stride0", "i64"], ["x_ptr.stride1", "i64"]],
        )  # fmt: skip
        how = row["tensor_maps"]["x_ptr"]
        self.assertEqual(how["element"], "fp16")
        self.assertEqual(how["shape"], ["n_rows", "n_in"])
        # One row of the box is what the swizzle spans.
        self.assertEqual(how["box"][-1] * 2, how["swizzle_bytes"])
        # A target without such copies takes pointers.
        older = cases.request_of(spec, case, "cuda:80")
        self.assertEqual(older.constexprs["USE_DESCRIPTORS"], 0)
        asked = dataclasses.replace(asked, constexprs={**asked.constexprs, "PDL": 0})
        with self.assertRaisesRegex(Exception, "this target has none"):
            driver.Target("cuda:80").compile(asked, None)

    def test_another_form(self):
        spec = sources.load_spec("attention_prefill")
        asked = {c.name: cases.request_of(spec, c, "cuda:90") for c in spec.cases("fp16")}
        forms = {name for name, each in asked.items() if each.constexprs["HOPPER"]}
        self.assertLessEqual(
            {"ragged", "demo_chunk", "llama3_8b", "bf16", "softcap", "window"}, forms
        )
        self.assertFalse({"heads_80", "heads_96", "block_16"} & forms)
        for name in ("llama3_8b", "demo_prompt"):
            row, _ = self.target.compile(asked[name], None)
            # What warps it has beside those asked for is the kernel's own affair.
            self.assertEqual((asked[name].num_warps, row["num_warps"]), (4, 12))
            self.assertEqual(row["n_threads"], 384)
            for cache in ("k_cache_ptr", "v_cache_ptr"):
                how = row["tensor_maps"][cache]
                self.assertEqual((how["box"], how["swizzle_bytes"]), ([64, 64], 128))
                self.assertIn([cache, "tensor_map"], row["args"])
        case = next(case for case in spec.cases("fp16") if case.name == "ragged")
        self.assertEqual(cases.grid_of(spec, case, asked["ragged"]), [30, 1, 1])
        # Elsewhere there is the one in Triton.
        for target in ("cpu", "cuda:80", "hip:gfx942"):
            self.assertEqual(cases.request_of(spec, case, target).constexprs["HOPPER"], 0)
        with self.assertRaisesRegex(CompileError, "for GPUs"):
            cpu.ttir_text(asked["ragged"])
        with self.assertRaisesRegex(ValueError, "other parameters"):
            dataclasses.replace(spec, forms={"HOPPER": sources.load_spec("scale").fn})

    def test_another_form_of_a_product(self):
        spec = sources.load_spec("linear_tiled")
        asked = {c.name: cases.request_of(spec, c, "cuda:90") for c in spec.cases("fp16")}
        forms = {name for name, each in asked.items() if each.constexprs["HOPPER"]}
        wide = {"wide_half", "wide_residual", "wide_swiglu", "wide_both", "wide_geglu"}
        self.assertLessEqual(wide, forms)
        self.assertFalse({"half", "odd", "one_row", "llama3_8b_strip"} & forms)
        self.assertEqual({asked[name].constexprs["BLOCK_N"] for name in forms}, {256})
        self.assertEqual({asked[name].constexprs["TAIL"] for name in wide}, {128, 192})
        case = next(case for case in spec.cases("fp16") if case.name == "wide_half")
        self.assertEqual(cases.grid_of(spec, case, asked["wide_half"]), [132, 1, 1])
        row, _ = self.target.compile(asked["wide_half"], None)
        self.assertEqual((row["num_warps"], row["n_threads"]), (12, 384))
        for name in ("y_ptr", "x_ptr", "w_ptr"):
            how = row["tensor_maps"][name]
            self.assertEqual((how["box"], how["swizzle_bytes"]), ([64, 64], 128))
        # Types but one of 16 bits on a GPU, and everything elsewhere, are for that in Triton.
        for types in ({"x_ptr": "fp32", "y_ptr": "fp32"}, {"w_ptr": "bf16"}):
            other = dataclasses.replace(case, dtypes={**case.dtypes, **types})
            request = cases.request_of(spec, other, "cuda:90")
            self.assertEqual(request.constexprs["HOPPER"], 0)
        for target in ("cpu", "cuda:80", "hip:gfx942"):
            self.assertEqual(cases.request_of(spec, case, target).constexprs["HOPPER"], 0)

    def test_another_form_of_a_product_of_8_bit_floats(self):
        spec = sources.load_spec("linear_fp8")
        asked = {c.name: cases.request_of(spec, c, "cuda:90") for c in spec.cases("fp16")}
        forms = {name for name, each in asked.items() if each.constexprs["HOPPER"]}
        self.assertLessEqual({"wide_half", "wide_qkv", "wide_residual", "wide_swiglu"}, forms)
        self.assertFalse({"odd", "one_row", "llama3_8b_strip"} & forms)
        row, _ = self.target.compile(asked["wide_half"], None)
        self.assertEqual((row["num_warps"], row["n_threads"]), (12, 384))
        for name in ("x_ptr", "w_ptr"):
            how = row["tensor_maps"][name]
            self.assertEqual((how["element"], how["box"]), ("fp8e4nv", [64, 128]))
            self.assertEqual(how["swizzle_bytes"], 128)
        # Rows that no multiple of 16 bytes is: none of them is a tensor map's.
        case = next(case for case in spec.cases("fp16") if case.name == "wide_half")
        odd = dataclasses.replace(case, args={**case.args, "n_in": 136})
        request = cases.request_of(spec, odd, "cuda:90")
        self.assertEqual(
            (request.constexprs["HOPPER"], request.constexprs["USE_DESCRIPTORS"]), (0, 0)
        )

    def test_another_form_by_pointers(self):
        spec = sources.load_spec("attention_decode_split")
        asked = {c.name: cases.request_of(spec, c, "cuda:90") for c in spec.cases("fp16")}
        forms = {name for name, each in asked.items() if each.constexprs["HOPPER"]}
        some = {"batch", "norm", "window", "softcap", "bf16", "bf16_cache", "llama3_8b"}
        self.assertLessEqual(some, forms)
        self.assertFalse({"heads_80", "heads_96", "heads_256", "block_16", "multi_query"} & forms)
        for name in ("llama3_8b", "bf16_cache"):
            row, _ = self.target.compile(asked[name], None)
            self.assertNotIn("tensor_maps", row)
            self.assertEqual((row["num_warps"], row["spills"] < 64), (4, True))
        for target in ("cpu", "cuda:80", "hip:gfx942"):
            for case in spec.cases("fp16"):
                request = cases.request_of(spec, case, target)
                self.assertEqual(request.constexprs["HOPPER"], 0)

    def test_bundle(self):
        rows, failures, _ = self.compile(self.requests)
        self.assertEqual(failures, [])
        names = {r.key: digest(r, "cuda:90", self.target.compiler, None) for r in self.requests}
        out = self.folder / "bundle"
        driver.write_bundle(out, self.target, rows[:1], self.cache, names)
        driver.write_bundle(out, self.target, rows[1:], self.cache, names)
        manifest = json.loads((out / "manifest.json").read_text())
        self.assertEqual({row["key"] for row in manifest["variants"]}, set(names))
        for row in manifest["variants"]:
            data = (out / row["object"]).read_bytes()
            self.assertEqual(data[:4], b"\x7fELF")
            self.assertEqual(hashlib.sha256(data).hexdigest(), row["object_sha256"])
            self.assertEqual(row["source_sha256"], sources.source_sha256("scale"))
            self.assertNotIn(str(sources.ROOT).encode(), data)
            self.assertEqual([kind for _, kind in row["args"]], ["pointer"] * 2 + ["i64", "fp32"])
            self.assertIs(row["programmatic_launch"], False)
        # A damaged object in the cache is made anew, to the same bytes.
        name = names[self.requests[0].key]
        path = self.cache._path(name, "cubin")
        before = path.read_bytes()
        path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        self.assertIsNone(self.cache.get(name))
        self.compile(self.requests[:1])
        self.assertEqual(path.read_bytes(), before)

    def test_another_triton_is_refused(self):
        import triton

        with (
            mock.patch.object(triton, "__version__", "3.6.0"),
            self.assertRaisesRegex(CompileError, "has Triton 3.6.0; expected .* NEREID_PYTHON"),
        ):
            self.compile(self.requests)

    def test_command(self):
        asked = self.folder / "requests.jsonl"
        bad = json.loads(self.requests[0].key)
        asked.write_text(self.requests[0].key + "\n" + json.dumps({**bad, "constexprs": {}}) + "\n")
        argv = ["aot.compile", "--requests", str(asked), "--target", "cuda:90"]
        argv += ["--out", str(self.folder / "none"), "--jobs", "1", "--progress", "json"]
        os.environ["XDG_CACHE_HOME"] = str(self.folder)
        self.addCleanup(os.environ.pop, "XDG_CACHE_HOME")
        before, sys.argv = sys.argv, argv
        try:
            with (
                contextlib.redirect_stderr(io.StringIO()) as said,
                contextlib.redirect_stdout(io.StringIO()) as progress,
            ):
                code = driver.main()
        finally:
            sys.argv = before
        self.assertEqual(code, 1)
        self.assertIn("error: scale for cuda:90", said.getvalue())
        self.assertFalse((self.folder / "none" / "manifest.json").exists())
        last = json.loads(progress.getvalue().splitlines()[-1])
        self.assertEqual((last["done"], last["total"]), (2, 2))


class Generated(unittest.TestCase):
    """Kernels that the graph compiler wrote: those of its goldens."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.names = {}
        (self.folder / "generated").mkdir()
        for path in (sources.ROOT / "tests" / "golden" / "generated").glob("*.txt"):
            text = path.read_text()
            self.names[path.stem] = re.search(r"^def (\w+)\(", text, re.MULTILINE)[1]
            (self.folder / "generated" / f"{self.names[path.stem]}.py").write_text(text)
        sources.use_generated(self.folder / "generated")
        self.addCleanup(sources.use_generated, None)

    def test_a_hash_does_not_depend_on_where_files_lie(self):
        """A user's file is exported where it is and compiled from a bundle's folder."""
        name = min(self.names.values())
        text = (self.folder / "generated" / f"{name}.py").read_text()
        hashes = {sources.source_sha256(name)}
        self.addCleanup(sources.source_sha256.cache_clear)
        tree = self.folder / "m"
        for part in ("kernels", "aot/targets", "src/graph/expression"):
            shutil.copytree(sources.ROOT / part, tree / part)
        for place in ("a", "m/generated", "z"):
            (self.folder / place).mkdir()
            (self.folder / place / f"{name}.py").write_text(text)
            sources.use_generated(self.folder / place)
            sources.source_sha256.cache_clear()
            with mock.patch.object(sources, "ROOT", tree):
                hashes.add(sources.source_sha256(name))
        self.assertEqual(len(hashes), 1)

    def case(self, golden, name, target):
        spec = sources.load_spec(self.names[golden])
        case = next(case for case in spec.cases("fp16") if case.name == name)
        return spec, case, cases.request_of(spec, case, target)

    def test_reference_is_the_formula(self):
        import numpy as np

        spec, case, asked = self.case("residual_norm", "odd", "cuda:90")
        a, n = case.args, case.args["n_cols"]
        x, y, weight = (
            np.float16(a[name])[..., :n].astype(np.float64)
            for name in ("x_ptr", "y_ptr", "weight_ptr")
        )
        added = np.float16(x + 0.22 * y).astype(np.float64)
        normed = added / np.sqrt((added**2).mean(axis=1, keepdims=True) + 1e-5) * weight
        got = cases.expected(spec, case, asked)
        np.testing.assert_allclose(got["added_ptr"][:3], added, rtol=1e-3)
        np.testing.assert_allclose(got["normed_ptr"][:3], normed, rtol=4e-3, atol=1e-3)
        self.assertTrue((got["added_ptr"][3] == a["added_ptr"][3]).all())

        spec, case, asked = self.case("embedding_norm", "even", "cpu")
        got = cases.expected(spec, case, asked)["gathered_ptr"]
        row = case.args["table_ptr"][case.args["ids_ptr"][4], :384]
        np.testing.assert_allclose(got[4], 12 * np.float16(row).astype(np.float32), rtol=1e-6)

        spec, case, asked = self.case("gate_scale", "one_row", "cpu")
        gate, up = (np.float16(case.args[name]).astype(float) for name in ("gate_ptr", "up_ptr"))
        got = cases.expected(spec, case, asked)["scaled_ptr"][:1]
        want = gate / (1 + np.exp(-gate)) * up / 2
        np.testing.assert_allclose(got, want, rtol=2e-3, atol=1e-4)

        spec, case, asked = self.case("head_norm_rope", "even", "cuda:90")
        a, head = case.args, 1
        got = cases.expected(spec, case, asked)["roped_ptr"][4 * a["group"] + head]
        rotate = sources.load_spec("rope").reference
        x = np.float16(a["x_ptr"][4, head * 384 : (head + 1) * 384]).astype(np.float64)
        x = np.float16(x / np.sqrt((x**2).mean() + 1e-6) * np.float16(a["weight_ptr"]))
        want = rotate({
            "n_tokens": 1, "n_heads": 1, "head_dim": 384, "x_ptr": x[None].astype(np.float32),
            "out_ptr": np.zeros((1, 384), np.float32), "positions_ptr": a["positions_ptr"][4:],
            "inv_freq_ptr": a["inv_freq_ptr"],
        })["out_ptr"][0]  # fmt: skip
        np.testing.assert_allclose(got, want, rtol=4e-3, atol=2e-3)

    def test_every_gpu_target_compiles_them(self):
        for target in ("cuda:80", "cuda:90", "hip:gfx942"):
            for golden in self.names:
                _, _, asked = self.case(golden, "odd", target)
                row, data = driver.Target(target).compile(asked, None)
                self.assertEqual(data[:4], b"\x7fELF")
                self.assertEqual(row["symbol"], self.names[golden])
                self.assertEqual(row["source"], f"generated/{self.names[golden]}.py")
                self.assertIn(row["spills"], (0, None))

    def test_a_bundle_keeps_them_while_their_source_is_there(self):
        target = driver.Target("cuda:90")
        cache = ObjectCache("cubin", self.folder / "cache")
        asked = [self.case(golden, "odd", "cuda:90")[2] for golden in sorted(self.names)]
        self.assertEqual(request.Request.parse(asked[0].key), asked[0])
        names = {r.key: digest(r, "cuda:90", target.compiler, None) for r in asked}

        def kernels(requests):
            rows, failures = driver.compile_all(requests, target, jobs=1, cache=cache)
            self.assertEqual(failures, [])
            driver.write_bundle(self.folder, target, rows, cache, names)
            manifest = json.loads((self.folder / "manifest.json").read_text())
            return {row["kernel"] for row in manifest["variants"]}

        self.assertEqual(kernels(asked[:2]), {r.kernel for r in asked[:2]})
        self.assertEqual(kernels(asked[2:]), set(self.names.values()))
        sources.kernel_path(asked[0].kernel).unlink()
        self.assertEqual(kernels(asked[2:]), {r.kernel for r in asked[1:]})
        with self.assertRaisesRegex(request.RequestError, f"no kernel {asked[0].kernel}"):
            request.Request.parse(asked[0].key)


if __name__ == "__main__":
    unittest.main()

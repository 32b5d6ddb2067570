"""The scripts of bench/ on made-up results: merged, compared, drawn and written as a page."""

import importlib.util
import json
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "bench"))


def module(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "bench" / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


compare_cpu, compare_kernels, envelope, merge, plot, prove_outside, report = map(
    module,
    ("compare_cpu", "compare_kernels", "envelope", "merge", "plot", "prove_outside", "report"),
)
attention_cells, attention_figures = map(module, ("attention_cells", "attention_figures"))


def end_to_end(engine, mode, itl_ms, model="configs/llama3-8b"):
    row = {"bench": "e2e", "engine": engine, "model": model, "mode": mode}
    row |= {"batch": 2, "prompt": 512, "output": 256, "repeats": 2, "ttft_ms": 25.0}
    row |= {"itl_ms": itl_ms, "itl_ms_median": itl_ms, "itl_ms_p99": 1.1 * itl_ms}
    row |= {"tokens_per_s": 512e3 / (25 + 255 * itl_ms), "weight_bytes": 15_010_000_000}
    row |= {"weight_gb_per_s": 15010 / itl_ms, "bandwidth_percent": 480 / itl_ms, "floor_ms": 4.8}
    row |= {"device_bytes": 17e9, "samples_tokens_per_s": [1.0, 2.0]}
    return row | ({"launches_per_step": 165} if engine == "nereid" else {})


def linear(engine, us, rows=2):
    row = {"bench": "kernels", "engine": engine, "model": "llama3-8b", "op": "linear"}
    row |= {"name": "qkv", "kernel": "linear_gemv", "rows": rows, "n_out": 6144, "n_in": 4096}
    return row | {"us": us, "limit": "stream", "percent": 90.0}


def attention(engine, us, query):
    row = {"bench": "kernels", "engine": engine, "model": "llama3-8b", "op": "attention"}
    row |= {"name": "decode", "kernel": "k", "batch": 2, "query": query, "context": 640}
    return row | {"us": us, "limit": "stream", "percent": 50.0}


def document(rows, **more):
    return {
        "machine": {"cpu": "a cpu", "n_cpus": 16, "memory_bytes": 1, "system": "Linux"},
        "device": {"name": "cuda:0", "target": "cuda:90", "description": "NVIDIA H100 <x>"},
        "limits": {"stream_gb_per_s": 3100.0, "dot_tflop_per_s": 700.0, "dot_dtype": "fp16"},
        "time": "2026-11-22T16:00:00Z",
        "rows": rows,
        **more,
    }


def rival(rows):
    device = {"description": "NVIDIA H100", "torch": "2.11", "cuda": "13.0", "cudnn": 91000}
    return {"device": device, "time": "2026-11-22T16:01:00Z", "rows": rows}


def results():
    proof = {"launches": 1234, "functions": 20, "bundles": ["/somewhere/llama3-8b-cuda-90"]}
    ours = [end_to_end("nereid", "eager", 18.0), end_to_end("nereid", "graph", 5.5)]
    again = [end_to_end("nereid", "eager", 20.0), end_to_end("nereid", "graph", 5.7)]
    kernels = [linear("nereid", 15.0), linear("nereid", 16.0, rows=4), attention("nereid", 8.0, 1)]
    return merge.merge(
        [
            document(ours, proof=proof),
            rival([end_to_end("torch", "compiled", 6.4)]),
            document(again, proof=proof),
            document(kernels),
            rival([linear("torch", 18.0), attention("torch", 9.0, 1)]),
        ],
        {"driver": "580.1"},
    )


class CompareCpuTest(unittest.TestCase):
    def test_ratios_are_of_one_round_and_above_one_where_ours_is_faster(self):
        llama = compare_cpu.lines_by_test(
            '{"threads": 2, "first_token_ms": 60.0, "id": 7}\n'
            '{"threads": 2, "test": "decode128", "tokens_per_s": 100.0, "best": 120.0}\n'
        )
        self.assertEqual(llama, {"first_token_ms": 60.0, "decode128": 100.0})
        # A machine that halves its speed from round to round: the ratio stays.
        samples = [
            {
                "threads": 2,
                "nereid": {"first_token_ms": 40.0 * drift, "decode128": 150.0 / drift},
                "llama.cpp": {"first_token_ms": 60.0 * drift, "decode128": 100.0 / drift},
                "torch": {"decode128": 50.0 / drift},
            }
            for drift in (1, 2, 4)
        ]
        start, decode = compare_cpu.summary(samples)
        self.assertEqual((start["test"], start["nereid"]), ("first_token_ms", 80.0))
        self.assertEqual(start["times_llama.cpp"], 1.5)
        self.assertNotIn("torch", start)
        self.assertEqual((decode["times_llama.cpp"], decode["times_torch"]), (1.5, 3.0))


class Merge(unittest.TestCase):
    def test_runs_of_the_same_become_one_row(self):
        rows = {(r["engine"], r["mode"]): r for r in results()["rows"] if r["bench"] == "e2e"}
        self.assertEqual(len(rows), 3)
        eager = rows["nereid", "eager"]
        self.assertEqual(eager["itl_ms"], 19.0)
        self.assertEqual(eager["model"], "llama3-8b")
        self.assertEqual(eager["repeats"], 4)
        self.assertEqual(eager["batch"], 2)
        self.assertEqual(eager["samples_tokens_per_s"], [1.0, 2.0, 1.0, 2.0])

    def test_limits_and_proofs_are_kept(self):
        self.assertEqual(results()["limits"]["stream_gb_per_s"], 3100.0)
        self.assertEqual(len(results()["proofs"]), 2)
        self.assertEqual(results()["proofs"][0]["bundles"], ["llama3-8b-cuda-90"])


class Compare(unittest.TestCase):
    def test_pairs_by_shape(self):
        lines = compare_kernels.table(results()["rows"])
        self.assertEqual(lines[0][-1], "1.20")
        self.assertEqual(lines[1][-1], "-")
        self.assertEqual(lines[2][-1], "1.12")
        self.assertIn("decode, batch 2, 640 tokens", lines[2])


class Plot(unittest.TestCase):
    def test_bars_are_as_tall_as_their_values(self):
        text = plot.plots(results())["itl.svg"]
        root = ElementTree.fromstring(text)
        bars = [
            node
            for node in root.iter("{http://www.w3.org/2000/svg}rect")
            if node.get("width") == str(plot.BAR)
        ]
        # Three measured and the report's four.
        self.assertEqual(len(bars), 7)
        heights = [float(bar.get("height")) for bar in bars]
        self.assertAlmostEqual(heights[0] / heights[1], 19.0 / 5.6, delta=0.05)
        self.assertIn("floor 4.8", text)

    def test_steps_of_the_axis_are_round(self):
        for top in (0.3, 1.0, 4.7, 27.4, 310.0, 2600.0):
            step = plot.nice_step(top)
            self.assertTrue(4 <= top / step <= 12, (top, step))
            self.assertIn(f"{step:e}"[0], "125")


class Page(unittest.TestCase):
    def test_page_holds_the_figures(self):
        text = report.page(results(), ["bench/results/x.json"], [])
        for part in ("19.000", "5.600", "6.400", "20.36", "8.59", "2468 launches", "580.1", "1.20"):
            self.assertIn(part, text)

    def test_files_are_written(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "results.json"
            path.write_text(json.dumps(results()))
            sys.argv = ["report.py", str(path), "--docs", folder]
            report.main()
            self.assertTrue((Path(folder) / "benchmarks.md").exists())
            self.assertTrue((Path(folder) / "benchmarks" / "itl.svg").exists())

    def test_other_machines_and_starts_have_their_sections(self):
        other = results()
        other["device"] = other["device"] | {"description": "another GPU"}
        mine = results()
        mine["rows"].append(
            {
                "bench": "start", "engine": "nereid", "model": "m", "weight_bytes": 16e9,
                "start_to_first_token_ms": 840.0, "upload_gb_per_s": 19.5,
            }
        )  # fmt: skip
        text = report.page(mine, ["a.json", "b.json"], [other])
        self.assertIn("The same on another GPU", text)
        self.assertIn("| m | 16.00 | 840 | 19.5 |", text)

    def test_a_machine_without_rivals_has_a_page_too(self):
        alone = document([end_to_end("nereid", "eager", 18.0, "demo")])
        alone["device"] |= {"target": "cpu", "description": "a processor"}
        text = report.page(merge.merge([alone], {}), ["x.json"], [])
        self.assertIn("18.000", text)
        self.assertNotIn("report:", text)


def sweep():
    def cell(sequences, sampler, step_ms, engine="nereid"):
        return {
            "bench": "sweep", "engine": engine, "model": "m", "context": 512, "floor_ms": 4.0,
            "sequences": sequences, "sampler": sampler, "step_ms": step_ms, "step_ms_p99": step_ms,
        }  # fmt: skip

    return {
        "device": {"description": "a GPU, 132 multiprocessors"},
        "time": "2026-11-29",
        "facts": {"driver": "1.2"},
        "rows": [
            cell(1, "greedy", 5.0), cell(64, "greedy", 7.0), cell(64, "all", 6.0),
            cell(64, "greedy", 8.4, "torch"),
            {"bench": "sweep", "engine": "nereid", "prompt": 2048, "first_token_ms": 40.0},
            {"bench": "product", "engine": "nereid", "name": "head", "shape": "9 x 4", "tokens": 1,
             "us": 8.0, "cublas_us": 10.0},
            {"bench": "product", "engine": "nereid", "name": "qkv", "shape": "3 x 4", "tokens": 2,
             "us": 8.0, "cublas_us": 4.0},
        ],
    }  # fmt: skip


class Envelope(unittest.TestCase):
    def test_the_worst_cell_comes_first_and_has_its_rival(self):
        header, lines = envelope.decode_table(sweep())
        self.assertEqual([line[6] for line in lines], ["1.75", "1.50", "1.25"])
        products = envelope.product_table(sweep())[1]
        self.assertEqual(
            [(line[0], line[-1]) for line in products], [("qkv", "0.50"), ("head", "1.25")]
        )
        self.assertEqual({len(line) for line in lines}, {len(header)})
        self.assertEqual(lines[0][-2:], ("8.40", "1.20"))
        self.assertEqual(lines[1][-2:], ("-", "-"))

    def test_heat_map_has_a_cell_for_each(self):
        root = ElementTree.fromstring(envelope.heat_map(sweep()))
        cells = [r for r in root.iter("{http://www.w3.org/2000/svg}rect") if "hsl" in r.get("fill")]
        self.assertEqual(len(cells), 3)
        self.assertEqual(envelope.colour(1.0), "hsl(120, 60%, 75%)")
        self.assertEqual(envelope.colour(9.0), "hsl(0, 60%, 75%)")

    def test_the_page_begins_with_it(self):
        text = report.page(results(), ["x.json"], [], sweep())
        self.assertLess(text.index("## The envelope"), text.index("## End to end"))
        self.assertIn("| 2048 | 40.0 | 51200 |", text)


def attention_row(engine, design, query, context, us, part="sizes", **more):
    row = {"bench": "attention", "engine": engine, "model": "llama3-8b-shape", "variant": "causal"}
    row |= {"part": part, "design": design, "name": "attention", "kernel": f"{design}_kernel"}
    return row | {"query": query, "context": context, "us": us, "tflop_per_s": 100 / us} | more


def study_rows():
    """Ours with its designs, and the rivals'."""
    answers = {"bench": "attention", "engine": "nereid", "model": "demo", "part": "answers"}
    answers |= {"mode": "eager", "same_ids": 24, "ids": 24, "same_lengths": 11, "lengths": 11}
    answers |= {"problem": "", "text": " x\ny"}
    ours = [
        attention_row("nereid", "nereid", 128, 128, 10.0),
        attention_row("nereid", "amd", 128, 128, 14.0),
        attention_row("nereid", "nereid", 256, 256, 20.0),
        attention_row("nereid", "nereid", 1, 256, 4.0),
        # Counts the pairs that the window hides, too.
        attention_row("nereid", "nereid", 256, 256, 25.0, tflop_per_s=8.0, variant="window"),
        attention_row("nereid", "nereid", 44, 44, 7.0, part="layer"),
        attention_row("nereid", "amd", 44, 44, 9.0, part="layer"),
        attention_row("nereid", "", 44, 44, 60.0, part="layer", name="mlp.down_proj"),
        answers | {"design": "amd"},
        answers | {"design": "dao", "same_ids": 3, "problem": "no answer"},
    ]
    theirs = [
        attention_row("torch", "cudnn", 128, 128, 12.0),
        attention_row("torch", "flex", 128, 128, 15.0),
        attention_row("torch", "flash", 256, 256, 16.0),
        attention_row("torch", "flex", 256, 256, 50.0, variant="window"),
        attention_row("torch", "flex", 512, 512, 30.0, variant="alibi"),
        attention_row("torch", "cudnn", 44, 44, 6.0, part="layer"),
        attention_row("torch", "", 44, 44, 45.0, part="layer", name="mlp.down_proj"),
    ]
    return ours, theirs


def study():
    ours, theirs = study_rows()
    alone = {name: value for name, value in document(ours).items() if name != "limits"}
    return merge.merge([alone, rival(theirs)], {"clocks": "as they come"})


class AttentionStudy(unittest.TestCase):
    def test_pairs_are_those_that_the_mask_leaves(self):
        for variant in attention_cells.VARIANTS:
            for query, context in ((1, 1), (1, 9), (9, 9), (4, 9), (5, 30), (30, 30)):
                cell = attention_cells.Cell(variant, query, context)
                reach = 7 if variant == "window" else context
                counted = sum(
                    0 <= q - k < reach
                    for q in range(context - query, context)
                    for k in range(context)
                )
                self.assertEqual(attention_cells.n_pairs(cell, 7), counted, cell)

    def test_cells_are_each_once_and_the_reports_prompt_is_among_them(self):
        cells = attention_cells.cells(["causal", "window"], [128, 256])
        self.assertEqual(len(set(cells)), len(cells))
        self.assertEqual(len(cells), 2 + 2 * 2 * 2)
        self.assertIn(attention_cells.Cell("causal", 44, 44, "layer"), cells)

    def test_products_are_those_of_the_layer(self):
        shapes = attention_cells.products(attention_cells.Shape())
        self.assertEqual(
            [shape[:2] for shape in shapes.values()],
            [(6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336)],
        )
        self.assertLess(set(shapes), set(attention_figures.OPERATIONS.values()))

    def test_designs_and_variants_stay_apart_when_merged(self):
        ours, theirs = study_rows()
        self.assertEqual(len(study()["rows"]), len(ours) + len(theirs))

    def test_the_worst_comes_first(self):
        text = attention_figures.made_part(study(), "bench/results/x.json")
        lines = [line for line in text.splitlines() if line.startswith("| causal | ")]
        self.assertIn("| 256 | 256 | 20.0 | `nereid_kernel` | - | 16.0 | - | 0.80 |", lines[0])
        self.assertIn("| 128 | 128 | 10.0 | `nereid_kernel` | 12.0 | - | 15.0 | 1.20 |", lines[1])
        self.assertTrue(lines[2].endswith("| - |"))
        down = next(line for line in text.splitlines() if line.startswith("| down |"))
        self.assertEqual(down, "| down | 60.0 | 45.0 | 0.75 | 58 | 42 | 0.72 |")
        self.assertIn("| attention | 7.0 | 6.0 | 0.86 | 13 | 8 | 0.62 |", text)
        self.assertIn("| `dao` | eager | 3/24 | 11/11 | `no answer` | incoherent text", text)
        self.assertIn("clocks: as they come", text)

    def test_bars_are_as_tall_as_their_values(self):
        root = ElementTree.fromstring(attention_figures.figures(study())["layer.svg"])
        bars = [
            float(node.get("height"))
            for node in root.iter("{http://www.w3.org/2000/svg}rect")
            if node.get("width") == str(plot.BAR)
        ]
        # Two of attention and of down, and the report's two of every operation.
        self.assertEqual(len(bars), 2 * 2 + 2 * 5)
        self.assertAlmostEqual(max(bars) / min(bars), 84 / 6, delta=0.3)

    def test_lines_are_as_high_as_their_speed(self):
        images = attention_figures.figures(study())
        root = ElementTree.fromstring(images["prompts.svg"])
        lines = list(root.iter("{http://www.w3.org/2000/svg}polyline"))
        # Causal: two of ours and three rivals; ALiBi: one; window: two.
        self.assertEqual(len(lines), 5 + 1 + 2)
        circles = list(root.iter("{http://www.w3.org/2000/svg}circle"))
        colors = {series: color for series, (_, color) in attention_figures.SERIES.items()}

        def heights(series):
            return [float(c.get("cy")) for c in circles if c.get("fill") == colors[series]]

        # Of the window ours takes half the time: twice as high, whatever each counts.
        bottom = attention_figures.TOP + 2 * attention_figures.PANEL_HEIGHT
        bottom += attention_figures.PANEL_GAP
        ours, theirs = heights(("nereid", "nereid"))[-1], heights(("torch", "flex"))[-1]
        self.assertAlmostEqual((bottom - ours) / (bottom - theirs), 2.0, delta=0.02)
        ElementTree.fromstring(images["decoding.svg"])

    def test_the_document_changes_between_its_marks_alone(self):
        begin, end = attention_figures.BEGIN, attention_figures.END
        text = f"before\n{begin}\nold\n{end}\nbehind\n"
        once = attention_figures.with_part(text, "new\n")
        self.assertEqual(once, f"before\n{begin}\n\nnew\n{end}\nbehind\n")
        self.assertEqual(attention_figures.with_part(once, "new\n"), once)
        with self.assertRaises(SystemExit):
            attention_figures.with_part("no marks", "new")

    def test_the_real_document_has_the_marks(self):
        with tempfile.TemporaryDirectory() as folder:
            page = Path(folder) / "attention.md"
            page.write_text((ROOT / "docs" / "attention.md").read_text())
            path = Path(folder) / "results.json"
            path.write_text(json.dumps(study()))
            sys.argv = ["attention_figures.py", str(path), "--docs", folder]
            attention_figures.main()
            text = page.read_text()
            self.assertIn("](attention/layer.svg)", text)
            for name in ("layer", "designs", "prompts", "decoding"):
                self.assertTrue((Path(folder) / "attention" / f"{name}.svg").exists(), name)

    def test_a_processor_has_nothing_of_the_report_beside_it(self):
        ours, _ = study_rows()
        alone = document(ours)
        alone["device"] |= {"target": "cpu"}
        results = merge.merge([alone], {})
        text = attention_figures.made_part(results, "x.json")
        self.assertIn("| down | 60.0 | - | - | - | - | - |", text)


class ProveOutside(unittest.TestCase):
    NSYS = (
        "Generating SQLite file\n\n"
        "Time (%),Total Time (ns),Instances,Name\n"
        "90.0,100,4,linear_gemv\n"
        '10.0,10,1,"rms_norm"\n'
    )
    NCU = (
        "==PROF== Connected\n"
        '"ID","Process ID","Kernel Name","Metric Value"\n'
        '"0","1","linear_gemv (96, 1, 1)x(128, 1, 1)","5"\n'
        '"1","1","void gemm_kernel<float>(int)","5"\n'
    )
    MANIFEST: dict = {"variants": [{"symbol": "linear_gemv"}, {"symbol": "rms_norm"}]}  # noqa: RUF012

    def test_names_of_nsys(self):
        seen = prove_outside.kernel_names(self.NSYS)
        self.assertEqual(seen, {"linear_gemv", "rms_norm"})
        self.assertEqual(prove_outside.unknown_names(seen, self.MANIFEST), set())

    def test_a_foreign_kernel_is_found(self):
        seen = prove_outside.kernel_names(self.NCU)
        self.assertEqual(
            prove_outside.unknown_names(seen, self.MANIFEST), {"void gemm_kernel<float>"}
        )


if __name__ == "__main__":
    unittest.main(verbosity=2)

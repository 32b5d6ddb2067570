"""A graph that somebody wrote as text: read back, fused, and every fault named with its line."""

import nereid_cli as cli

GRAPH = """graph mlp {
  input %x: fp32[T, 128]
  weight %model.norm.weight: fp16[128]
  weight %gate: fp16[256, 128]
  weight %up: fp16[256, 128]
  %4: fp32[T, 128] = rms_norm %x, %model.norm.weight {eps = 1e-06}
  %5: fp32[T, 256] = linear %4, %gate
  %6: fp32[T, 256] = linear %4, %up
  %7: fp32[T, 256] = silu_mul %5, %6
  return %7
}
"""


class GraphFile(cli.TestCase):
    def inspect(self, text, *options):
        self.path = self.folder / "mlp.txt"
        self.path.write_text(text)
        return cli.run("inspect", "graph", self.path, *options)

    def test_is_printed_and_fused(self):
        result = self.inspect(GRAPH)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertTrue(result.stdout.startswith(GRAPH), result.stdout)
        self.assertIn(
            "= linear %x, %packed.gate, norm = %model.norm.weight"
            ' {eps = 1e-06, epilogue = "(gate, up) -> silu(gate) * up"}',
            result.stdout,
        )
        shown = self.inspect(GRAPH, "--passes", "--skip-pass", "fuse_norm")
        self.assertEqual(shown.returncode, 0, shown.stderr)
        self.assertIn("# after pack_weights", shown.stdout)
        self.assertNotIn("norm = ", shown.stdout)

    def test_faults_are_named_with_their_line(self):
        for old, new, line, cause in (
            ("%7: fp32[T, 256]", "%7: fp32[T, 255]", 9, "the operands make it fp32[T, 256]"),
            ("linear %4, %up", "linear %4, %model.norm.weight", 8, "operand weight"),
            ("silu_mul", "gelu_mul", 9, 'there is no op "gelu_mul"'),
            # A cycle: text has an order, so that it begins with a value nobody has computed yet.
            ("rms_norm %x", "rms_norm %7", 6, "%7 is used before it is declared"),
            ("weight %up", "weight %gate", 5, "declared twice"),
        ):
            with self.subTest(cause=cause):
                self.expect_error(self.inspect(GRAPH.replace(old, new)), f":{line}: ", cause)
        self.expect_error(self.inspect(GRAPH, "--skip-pass", "fuse_all"), "fuse_all", "fuse_norm")
        self.expect_error(cli.run("inspect", "graph", self.folder / "none.txt"), "none.txt")

    def test_an_opaque_op_is_known_by_its_shape_function(self):
        """The worked example of docs/adding_an_op.md."""
        graph = """graph g {
  input %q: fp16[T, 8, 64]
  state %cache.0.k: fp16[8, 4, 64, 64]
  state %cache.0.v: fp16[8, 4, 64, 64]
  input %tables: i32[S, 8]
  input %starts: i32[S+1]
  input %lens: i32[S]
  %6: fp16[T, 8, 64] = attention %q, %cache.0.k, %cache.0.v, %tables, %starts, %lens {scale = 0.125}
  return %6
}
"""
        result = self.inspect(graph)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stdout, f"{graph}\n# after all passes\n{graph}")
        said = (
            "attention: operand k_cache (%cache.0.k): expected a number of heads that divides 6,"
            " got fp16[8, 4, 64, 64]"
        )
        self.assertIn(said, (cli.ROOT / "docs" / "adding_an_op.md").read_text())
        self.expect_error(self.inspect(graph.replace("T, 8,", "T, 6,")), f":8: {said}")

    def test_a_cluster_has_its_source(self):
        chain = GRAPH.replace("linear %4, %gate", "linear %x, %gate").replace(
            "  return %7", "  %8: fp32[T, 256] = scale %7 {alpha = 0.5}\n  return %8"
        )
        shown = self.inspect(chain, "--generated", "--skip-pass", "fuse_epilogue")
        self.assertEqual(shown.returncode, 0, shown.stderr)
        self.assertIn("gated = silu_mul gate, up; scaled = scale gated {alpha = 0.5}", shown.stdout)
        self.assertRegex(shown.stdout, r"# generated/silu_mul_scale_[0-9a-f]{12}\.py\n\"\"\"2 oper")
        broken = chain.replace(
            "scale %7 {alpha = 0.5}", 'cluster %7 {body = "s = exp x; return s"}'
        )
        self.expect_error(self.inspect(broken), ":10: ", 'a cluster holds no "exp"')

    def test_an_expression_is_checked_and_written(self):
        gated = GRAPH.replace(
            "silu_mul %5, %6", 'map %5, %6 {body = "(gate, up) -> gelu_tanh(gate) * up"}'
        )
        self.assertIn(
            'epilogue = "(gate, up) -> gelu_tanh(gate) * up"}', self.inspect(gated).stdout
        )
        shown = self.inspect(gated, "--generated", "--skip-pass", "fuse_epilogue")
        self.assertEqual(shown.returncode, 0, shown.stderr)
        self.assertTrue(shown.stdout.startswith(gated), shown.stdout)
        self.assertRegex(
            shown.stdout, r"# generated/map_[0-9a-f]{12}\.py\n\"\"\"An operation on rows"
        )
        # The fault that docs/compiler.md shows.
        said = (
            'map, body: expression "(gate, up) -> geluu(gate) * up", column 15: there is no'
            " operator geluu; expected one of abs, bf16, erf, "
        )
        self.assertIn(said, (cli.ROOT / "docs" / "compiler.md").read_text())
        self.expect_error(self.inspect(gated.replace("gelu_tanh", "geluu")), f":9: {said}")
        # Two that become one, and why.
        chain = gated.replace("  return %7", "  %8: fp32[T, 256] = scale %7\n  return %8")
        chain = chain.replace("scale %7", "scale %7 {alpha = 0.5}")
        self.assertIn(
            "# 1x map with scale: 3072 bytes and ",
            self.inspect(chain, "--passes", "--skip-pass", "fuse_epilogue").stdout,
        )

    def test_weights_are_those_of_a_model(self):
        model = cli.FIXTURES / "llama3"
        self.expect_error(
            self.inspect(GRAPH, "--model", model), ":4: weight %gate", "no such tensor"
        )
        wrong = GRAPH.replace("%model.norm.weight: fp16[128]", "%model.norm.weight: bf16[128]")
        self.expect_error(
            self.inspect(wrong, "--model", model), ":3: weight %model.norm", "fp16[128]"
        )


if __name__ == "__main__":
    cli.main()

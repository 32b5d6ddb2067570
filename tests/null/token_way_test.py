"""The check of docs/architecture.md's way of a token: what it accepts, and what it finds."""

import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import check_token_way  # noqa: E402

SOURCE = """
// void in_a_comment() {}
class Runner final : public Base {
 public:
  explicit Runner(int n) : n_(n), all_{n} { start(); }
  int inside(std::span<const int> ids = {}) const override { return called(ids, [] { return 1; }); }
  void declared();
  const char* text = "in_a_string() {";
};
void Runner::outside(const std::function<void(int)>& f) {
  if (called(1)) {
  }
  device.called();
  for (int i : called(2)) {
  }
}
auto Runner::trailing(int x) const noexcept -> std::pair<int, int> { return {x, 1'000'000}; }
namespace nereid::engine {
static void free_one(
    int a,
    int b) {
}
}
"""


def document(*rows: str, before: str = "", after: str = "") -> str:
    table = "\n".join(["| file | function | does |", "|---|---|---|", *rows])
    section = f"## The way of a token\n\n{before}\n{table}\n\n{after}\n"
    return f"# A\n\n{section}## The folders\n\n| x |\n|---|\n"


class Definitions(unittest.TestCase):
    def test_each_way_to_define_is_seen(self):
        for qualifier, name in (
            ("Runner::", "Runner"),
            ("", "inside"),
            ("Runner::", "inside"),
            ("Runner::", "outside"),
            ("", "outside"),
            ("engine::Runner::", "trailing"),
            ("", "free_one"),
            ("engine::", "free_one"),
        ):
            self.assertTrue(check_token_way.is_defined(SOURCE, qualifier, name), qualifier + name)

    def test_calls_declarations_and_text_are_no_definitions(self):
        for name in ("called", "declared", "in_a_comment", "in_a_string", "start", "absent"):
            self.assertFalse(check_token_way.is_defined(SOURCE, "", name), name)
        self.assertFalse(check_token_way.is_defined(SOURCE, "Other::", "outside"))
        self.assertFalse(check_token_way.is_defined(SOURCE, "Other::", "free_one"))


class Documents(unittest.TestCase):
    MAIN = "| `apps/main.cc` | `main()`, `run()` | reads the arguments |"

    def problems(self, text: str) -> str:
        return "\n".join(check_token_way.problems_of(text))

    def test_a_true_table_is_clean(self):
        text = document(self.MAIN, before="```\n| a diagram |\n```", after="No `such_thing()`.")
        self.assertEqual(self.problems(text), "")

    def test_what_is_wrong_is_named(self):
        for row, expected in (
            ("| `apps/absent.cc` | `main()` | |", "apps/absent.cc does not exist"),
            ("| `apps/main.cc` | `absent()` | |", "apps/main.cc does not define absent()"),
            ("| `apps/main.cc` | `chosen()` | |", "does not define chosen()"),
            ("| `apps/main.cc` | main | |", "expected a row of one file and functions"),
        ):
            self.assertIn(expected, self.problems(document(self.MAIN, row)))
        self.assertIn("got 0", self.problems(document().replace("|", "")))
        self.assertIn("got 2", self.problems(document(self.MAIN, after="| b |\n|---|\n| c |\n")))
        self.assertIn("no section", self.problems("# A\n"))

    def test_files_are_counted_once(self):
        names = [f"| `apps/absent{i}.cc` | `f()` |" for i in range(12)]
        self.assertNotIn("files; expected", self.problems(document(*names, names[0])))
        self.assertIn("13 files; expected at most 12", self.problems(document(*names, self.MAIN)))


if __name__ == "__main__":
    unittest.main()

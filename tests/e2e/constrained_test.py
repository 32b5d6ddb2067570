"""Constrained answers of the bundled model, drawn at a temperature at which it says anything: each
is what was asked, by Python's own JSON, its `re` and the package jsonschema.

NEREID_CONSTRAINED_ANSWERS: how many; a thorough run has 2,000.
"""

import json
import os
import random
import re

import jsonschema
import nereid_cli as cli

N_ANSWERS = int(os.environ.get("NEREID_CONSTRAINED_ANSWERS", "200"))
PROMPTS = ("def f(x):", "import os\n", "class Stack:\n", "# ", "{", '"name": "')
# Each bounded: its longest text has fewer tokens than an answer may have.
TEXT = {"type": "string", "maxLength": 12}
SCHEMAS = (
    {
        "type": "object",
        "properties": {
            "name": TEXT,
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "tags": {"type": "array", "items": TEXT, "maxItems": 3},
        },
        "required": ["name", "age"],
        "additionalProperties": False,
    },
    {"enum": ["red", "green", 7, None, {"a": [1, 2]}, "\u00e9\u65e5\u672c"]},
    {
        "type": "array",
        "minItems": 1,
        "maxItems": 4,
        "items": {"anyOf": [{"type": "boolean"}, {"$ref": "#/$defs/point"}, TEXT]},
        "$defs": {
            "point": {
                "type": "object",
                "properties": {
                    "x": {"type": "integer", "minimum": -99, "maximum": 99},
                    "y": {"type": "integer", "minimum": -99, "maximum": 99},
                },
                "required": ["x", "y"],
                "additionalProperties": False,
            }
        },
    },
)
PATTERNS = (r"[a-z]{1,8}@[a-z]{1,8}\.(com|org)", r"(\d{3}-){2}\d{4}", r"[\u4e00-\u4e10]{2,5}!")
CHOICES = ("yes", "no", "yesterday", "\u65e5\u672c\u8a9e")


class Constrained(cli.TestCase):
    def answers(self, n, *options):
        prompts = self.folder / "prompts.jsonl"
        lines = [json.dumps({"prompt": PROMPTS[i % len(PROMPTS)]}) for i in range(n)]
        prompts.write_text("\n".join(lines))
        seed = random.randrange(2**32)
        print(f"{n} answers, seed {seed}: {' '.join(map(str, options))[:80]}", flush=True)
        out = cli.run_json(
            *("generate", "demo", "-f", prompts, "-n", 600, "--context", 1024),
            *("--temperature", 1.5, "--seed", seed, *options),
        )
        self.assertEqual(len(out["outputs"]), n)
        for answer in out["outputs"]:
            self.assertEqual(answer["finish_reason"], "stop", answer)
        return [answer["text"] for answer in out["outputs"]]

    def test_json_after_a_schema(self):
        for i, schema in enumerate(SCHEMAS):
            path = self.folder / f"schema{i}.json"
            path.write_text(json.dumps(schema))
            jsonschema.Draft202012Validator.check_schema(schema)
            for text in self.answers(N_ANSWERS // len(SCHEMAS) + 1, "--json-schema", path):
                with self.subTest(schema=i, text=text):
                    jsonschema.Draft202012Validator(schema).validate(json.loads(text))

    def test_regular_expressions(self):
        for pattern in PATTERNS:
            for text in self.answers(N_ANSWERS // 10 + 1, "--regex", pattern):
                self.assertRegex(text, re.compile(rf"\A(?:{pattern})\Z"))

    def test_choices(self):
        options = [part for choice in CHOICES for part in ("--choice", choice)]
        texts = self.answers(N_ANSWERS // 5 + 1, *options)
        self.assertLessEqual(set(texts), set(CHOICES))
        self.assertGreater(len(set(texts)), 1)

    def test_several_answers_with_all_that_else_may_be_asked(self):
        schema = self.folder / "schema.json"
        schema.write_text(json.dumps(SCHEMAS[0]))
        out = cli.run_json(
            *("generate", "demo", "-p", "x", "-n", 600, "--answers", 5, "--temperature", 1.5),
            *("--json-schema", schema, "--logprobs", 2, "--repetition-penalty", 1.2),
        )
        for answer in out["outputs"][0]["answers"]:
            jsonschema.Draft202012Validator(SCHEMAS[0]).validate(json.loads(answer["text"]))

    def test_what_is_refused(self):
        schema = self.folder / "schema.json"
        schema.write_text('{"type": "strin"}')
        self.expect_error(cli.run("generate", "demo", "-p", "x", "--json-schema", schema), "strin")
        self.expect_error(cli.run("generate", "demo", "-p", "x", "--regex", "(a"), "(a")


if __name__ == "__main__":
    cli.main()

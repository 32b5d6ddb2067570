"""Chat templates as our interpreter and as Python's Jinja render them, byte for byte.

Templates drawn at random (NEREID_JINJA_CASES of them, from NEREID_JINJA_SEED on), the templates of
well-known models, and what of a rendering is said to come from the caller."""

import datetime
import functools
import json
import os
import re
import subprocess
import sys
import unittest
import warnings

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox
from jinja_cases import draw
from jinja_templates import templates

DRIVER = sys.argv.pop(1)
N_CASES = int(os.environ.get("NEREID_JINJA_CASES", "300"))
SEED = int(os.environ.get("NEREID_JINJA_SEED", "1"))


class Generation(jinja2.ext.Extension):
    """{% generation %}: what it holds, printed."""

    tags = frozenset({"generation"})

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("print_body")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def print_body(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def to_json(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(
        x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def environment():
    made = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    made.filters["tojson"] = to_json
    made.filters["from_json"] = json.loads
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = lambda format: datetime.datetime.now().strftime(format)
    return made


ENVIRONMENT = environment()


def at_run_time(self, eval_ctx=None):
    raise jinja2.nodes.Impossible


# Jinja evaluates constants when it compiles, and these two differently from when it runs: a slice
# of none is undefined then, and a dict with a list as key is an error where it is never reached.
jinja2.nodes.Dict.as_const = at_run_time
jinja2.nodes.Slice.as_const = at_run_time


@functools.lru_cache(maxsize=1)
def compiled(source):
    return ENVIRONMENT.from_string(source)


def reference(row):
    try:
        warnings.simplefilter("ignore")  # of Python's about code that Jinja made
        return {"text": compiled(row["template"]).render(**row["context"])}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


class Driver:
    def __enter__(self):
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([DRIVER], stdin=pipe, stdout=pipe, text=True, bufsize=1)
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def render(self, row):
        print(json.dumps(row), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the driver died of {json.dumps(row)}")
        return json.loads(line)


# What one of the two does not do, and says so: integers of any size, the letters of other types.
UNSUPPORTED = re.compile(r"64 bits|is not supported|cannot be printed|nests|steps|is no key")
# What Python prints of its objects has addresses in it.
ADDRESS = re.compile(
    r"<[^<>]*(?: at 0x|object |Undefined|Macro |LoopContext |Cycler |Joiner |class )"
)

MARKUP = re.compile(r"""Markup\(('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\)""")


def differs(ours, theirs):
    if "error" in theirs:
        # Of a reason of Python's own: a generator or a view that is printed, an integer's digits.
        return "error" not in ours
    if "error" in ours:
        return not (UNSUPPORTED.search(ours["error"]) or ADDRESS.search(theirs["text"]))
    # Python tells strings that are safe by their type, wherever it prints them in a list.
    return ours["text"] != MARKUP.sub(r"\1", theirs["text"])


def marked(value):
    """The value with every letter of its strings moved into the private-use area."""
    if isinstance(value, str):
        return "".join(chr(0xE000 + ord(c) % 0x100) if c.isalnum() else c for c in value)
    if isinstance(value, list):
        return [marked(item) for item in value]
    if isinstance(value, dict):
        return {key: marked(item) for key, item in value.items()}
    return value


def outside(rendered):
    """The text without its input ranges, and the text of these."""
    data = rendered["text"].encode()
    done, kept, inputs = 0, [], []
    for begin, end in rendered["ranges"]:
        assert done <= begin < end <= len(data)
        kept.append(data[done:begin].decode())
        inputs.append(data[begin:end].decode())
        done = end
    kept.append(data[done:].decode())
    return kept, inputs


class RandomTemplates(unittest.TestCase):
    def test_they_render_alike(self):
        n_texts = 0
        failures = []
        with Driver() as driver:
            for seed in range(SEED, SEED + N_CASES):
                row = draw(seed)
                theirs = reference(row)
                ours = driver.render(row)
                n_texts += "text" in theirs and "text" in ours
                if differs(ours, theirs):
                    failures.append((seed, row, ours, theirs))
        print(
            f"seeds {SEED} to {SEED + N_CASES - 1}: {n_texts} rendered, the others refused by both"
        )
        for seed, row, ours, theirs in failures[: int(os.environ.get("NEREID_JINJA_SHOW", "3"))]:
            print(f"seed {seed}\n  {row['template']!r}\n  {json.dumps(row['context'])}")
            print(f"  ours   {ours}\n  theirs {theirs}")
        self.assertEqual(len(failures), 0, "templates that differ")
        self.assertGreater(n_texts, N_CASES // 10)

    def test_only_input_is_marked(self):
        with Driver() as driver:
            n_ranges = 0
            for seed in range(SEED, SEED + N_CASES):
                row = draw(seed)
                tokens = {key: row["context"][key] for key in ("bos_token", "eos_token")}
                row["context"] = marked(row["context"]) | tokens
                rendered = driver.render(row)
                if "error" in rendered:
                    continue
                kept, inputs = outside(rendered)
                n_ranges += len(inputs)
                for text in kept:
                    self.assertNotRegex(text, r"[\ue000-\uf8ff]|\\ue0[0-9a-f]{2}", f"seed {seed}")
            self.assertGreater(n_ranges, N_CASES // 20)


# Of what is seldom drawn, a template each; `d` is a dict of two, `e` the same in the other order.
CORNERS = [
    "{{ 'a' % nothing.name }}{{ 'b' % [1] }}{{ 'c' % {} }}{{ 'd' % range(3) }}",
    "{{ 'a' % 5 }}",
    "{{ range(9)[1:8:3] }} {{ range(9)[::-2] }} {{ range(2, 20, 3)[::-1][1:] }} {{ range(5)[9:] }}",
    "{{ range(5)[3:1] }} {{ range(0)[::-1] }} {{ range(9, 0, -2)[-3:] }} {{ [range(4)[::2]] }}",
    "{{ range(4)[1:] == range(1, 4) }} {{ {range(2): 1}[range(9)[:2]] }} {{ range(3)[:2]|list }}",
    "{{ (0, 1) in {range(2): 1} }} {{ {(0, 1): 'a', range(2): 'b'} }}",
    "{{ '{} {0}'.format(1) }}",
    "{{ '{0} {}'.format(1) }}",
    "{{ '{} {k} {}'.format(1, 2, k=3) }} {{ '{k} {1} {0}'.format(1, 2, k=3) }}",
    "{{ d.keys() == e.keys() }} {{ d.items() == e.items() }} {{ d.values() == d.values() }}",
    "{{ d.keys() < e.keys() }} {{ d.keys() <= e.keys() }} {{ {}.items() < d.items() }}",
    "{{ d.values() < e.values() }}",
    "{% set v = d.values() %}{{ {v: 1}[v] }} {{ v in {d.values(): 1} }}",
    "{{ {d.keys(): 1}|length }}",
    "{{ {d.items(): 1}|length }}",
    "{{ {[]: 1} }}",
    "{{ {(1, ({},)): 1} }}",
    "{{ 1 if true else -{[]: 1} }}",
    "{{ none[1:] }}",
    "{{ [true[1:]] }}",
]


class Corners(unittest.TestCase):
    def test_they_render_alike(self):
        d = {"a": 1, "b": [2]}
        context = {"d": d, "e": dict(reversed(d.items()))}
        with Driver() as driver:
            for template in CORNERS:
                row = {"template": template, "context": context}
                theirs, ours = reference(row), driver.render(row)
                self.assertEqual("error" in theirs, "error" in ours, f"{row} {ours} {theirs}")
                self.assertEqual(theirs.get("text"), ours.get("text"), template)


CALL = {"name": "get_weather", "arguments": {"city": "Zürich", "days": 3}}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": 'The weather of a city, "now" <or> later',
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Its name"},
                "days": {"type": "integer", "description": "How many", "default": 1},
            },
            "required": ["city"],
        },
    },
}
CHATS = {
    "plain": {"messages": [{"role": "user", "content": "What's the capital of <Peru>?"}]},
    "turns": {
        "messages": [
            {"role": "system", "content": "You are terse."},
            {"role": "user", "content": " Hello "},
            {"role": "assistant", "content": "Hi!\n"},
            {"role": "user", "content": "1 + 1 = ?"},
        ]
    },
    "tools": {
        "messages": [
            {"role": "user", "content": "How is the weather?"},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"id": "call123_0", "type": "function", "function": CALL}],
            },
            {
                "role": "tool",
                "tool_call_id": "call123_0",
                "name": "get_weather",
                "content": '{"t": 7}',
            },
            {"role": "assistant", "content": "7 degrees."},
            {"role": "user", "content": "Thanks"},
        ],
        "tools": [TOOL],
    },
}
NEAR_ALL = 66


class TemplatesOfModels(unittest.TestCase):
    def test_they_render_alike(self):
        found = templates()
        if found is None:
            self.skipTest("the templates are not in the cache and cannot be fetched")
        extra = {"add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>"}
        wrong = {}
        n_texts = 0
        with Driver() as driver:
            for name, template in found.items():
                for chat, context in CHATS.items():
                    row = {"template": template, "context": context | extra}
                    theirs, ours = reference(row), driver.render(row)
                    n_texts += "text" in theirs and "text" in ours
                    if ("error" in theirs) != ("error" in ours) or theirs.get("text") != ours.get(
                        "text"
                    ):
                        wrong.setdefault(name, []).append(chat)
                        print(f"{name}, {chat}:\n  ours   {ours}\n  theirs {theirs}"[:2000])
        print(
            f"{len(found)} templates, {len(found) - len(wrong)} alike in all chats; {n_texts} texts"
        )
        self.assertGreaterEqual(
            len(found) - len(wrong), NEAR_ALL, f"templates that differ: {wrong}"
        )

    def test_only_input_is_marked(self):
        found = templates()
        if found is None:
            self.skipTest("the templates are not in the cache and cannot be fetched")
        roles = {"role": "user", "content": marked("The quick brown fox 123")}
        with Driver() as driver:
            for name, template in found.items():
                context = {"messages": [roles], "bos_token": "<s>", "eos_token": "</s>"}
                rendered = driver.render({"template": template, "context": context})
                if "error" in rendered:
                    continue
                kept, _ = outside(rendered)
                self.assertNotRegex("|".join(kept), "[\ue000-\uf8ff]", name)


if __name__ == "__main__":
    unittest.main()

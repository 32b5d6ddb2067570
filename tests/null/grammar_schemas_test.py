"""Constrained answers against JSON Schema's own test suite and Python's validator.

usage: grammar_schemas_test.py DRIVER [SEED]

The suite comes in the source archive of the pinned `jsonschema`, which is fetched once and checked
by its hash.
"""

import hashlib
import json
import os
import random
import subprocess
import sys
import tarfile
import urllib.request
from http.client import HTTPException
from pathlib import Path

import jsonschema

ARCHIVE = "jsonschema-4.25.1.tar.gz"
SHA256 = "e4a9655ce0da0c0b67a085847e00a3a51449e1157f4f75e9fb5aa545e122eb85"
SIMPLE_INDEX = "https://pypi.org/simple/jsonschema/"
DRAFT = "json/tests/draft2020-12/"

# What draft 2020-12 says of a schema's other documents and vocabularies: nothing is fetched.
OTHER_DOCUMENTS = {"refRemote.json", "dynamicRef.json", "vocabulary.json"}
UNSUPPORTED = {
    *("not", "if", "then", "else", "contains", "uniqueItems", "dependentSchemas"),
    *("dependentRequired", "unevaluatedItems", "unevaluatedProperties", "$dynamicRef"),
}
MESSAGES = (
    *("is not supported", "refers to another document", "oneOf is supported only where"),
    "make it simpler",
)
N_RANDOM = 150


class Driver:
    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, **question):
        self.process.stdin.write(json.dumps(question).encode() + b"\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"the driver ended at {question}")
        return json.loads(line)


def archive_address():
    """Where the package index keeps the archive."""
    request = urllib.request.Request(
        SIMPLE_INDEX, headers={"Accept": "application/vnd.pypi.simple.v1+json"}
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        files = json.load(reply)["files"]
    return next(file["url"] for file in files if file["filename"] == ARCHIVE)


def suite_files():
    """Name and content of each file of the suite; none where the archive cannot be had."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "nereid"
    path = cache / ARCHIVE
    if not path.exists():
        try:
            with urllib.request.urlopen(archive_address(), timeout=60) as reply:
                data = reply.read()
        except (OSError, HTTPException) as error:
            print(f"the suite could not be fetched ({error}): its part of the test is left out")
            return
        cache.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        part.write_bytes(data)
        part.rename(path)
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        sys.exit(f"{path} is not the archive that was pinned; remove it")
    with tarfile.open(path) as archive:
        for member in archive:
            name = member.name.partition(DRAFT)[2]
            if name.endswith(".json") and "/" not in name:
                yield name, json.load(archive.extractfile(member))


def shuffled(value, rng):
    if isinstance(value, list):
        return [shuffled(item, rng) for item in value]
    if isinstance(value, dict):
        keys = list(value)
        rng.shuffle(keys)
        return {key: shuffled(value[key], rng) for key in keys}
    return value


def spellings(value, rng):
    """Several ways to write the same value."""
    return [
        json.dumps(value, separators=(",", ":"), ensure_ascii=False),
        json.dumps(shuffled(value, rng), indent=2),
        json.dumps(shuffled(value, rng), indent=4, ensure_ascii=False),
        json.dumps(shuffled(value, rng)),
    ]


def has_other_spelling(value):
    """Numbers that are written otherwise than docs/constrained.md allows: 1.0, 1e+30."""
    if isinstance(value, float):
        return value.is_integer() or "e" in repr(value)
    if isinstance(value, list):
        return any(map(has_other_spelling, value))
    return isinstance(value, dict) and any(map(has_other_spelling, value.values()))


def keywords(schema):
    if isinstance(schema, dict):
        for key, value in schema.items():
            yield key
            yield from keywords(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from keywords(item)


def test_suite(driver, rng):
    counts = {"accepted": 0, "refused": 0, "unsupported": 0, "other spelling": 0}
    failures = []
    for name, groups in suite_files():
        if name in OTHER_DOCUMENTS:
            continue
        for group in groups:
            schema = group["schema"]
            cases = [(test, spellings(test["data"], rng)) for test in group["tests"]]
            reply = driver.ask(schema=schema, texts=[text for _, texts in cases for text in texts])
            place = f"{name}: {group['description']}"
            if "error" in reply:
                counts["unsupported"] += len(group["tests"])
                # A schema that nothing satisfies is refused as a whole.
                is_empty = "no JSON value" in reply["error"]
                if is_empty and any(test["valid"] for test in group["tests"]):
                    failures.append(f"{place}: {reply['error']}")
                if not is_empty and not any(message in reply["error"] for message in MESSAGES):
                    failures.append(f"{place}: {reply['error']}")
                continue
            verdicts = iter(reply["accepted"])
            for test, texts in cases:
                for text in texts:
                    verdict = next(verdicts)
                    if test["valid"] and not verdict and has_other_spelling(test["data"]):
                        counts["other spelling"] += 1
                    elif verdict != test["valid"]:
                        failures.append(f"{place}: {test['description']}: {text!r} {verdict}")
                    else:
                        counts["accepted" if verdict else "refused"] += 1
    print(f"suite: {counts}, {len(failures)} failures")
    return failures


class Drawing:
    """Schemas and values at random, over few names so that they meet."""

    NAMES = ("a", "b", "ab", "c", "é")

    def __init__(self, rng):
        self.rng = rng

    def schema(self, depth=0):
        rng = self.rng
        kinds = ["string", "integer", "number", "values", "type", "any", "never"]
        if depth < 3:
            kinds += ["object", "array", "anyOf", "allOf", "bare"] * 2
        kind = rng.choice(kinds)
        return getattr(self, f"draw_{kind}")(depth)

    def maybe(self, chance, **fields):
        return {key: make() for key, make in fields.items() if self.rng.random() < chance}

    def count(self):
        return self.rng.randrange(4)

    def draw_any(self, _):
        return self.rng.choice([True, {}])

    def draw_never(self, _):
        return False if self.rng.random() < 0.3 else {"type": ["null", "boolean"]}

    def draw_type(self, _):
        names = ["null", "boolean", "integer", "number", "string", "array", "object"]
        return {"type": self.rng.sample(names, self.rng.randint(1, 3))}

    def draw_string(self, _):
        patterns = ["^a", "b$", "^[ab]*$", "a|é", "^(ab){1,2}$", "\\d"]
        return {
            **self.maybe(0.8, type=lambda: "string"),
            **self.maybe(0.4, minLength=self.count, maxLength=lambda: self.count() + 1),
            **self.maybe(0.3, pattern=lambda: self.rng.choice(patterns)),
        }

    def bounds(self, values):
        def pick():
            return self.rng.choice(values)

        names = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
        return self.maybe(0.3, **dict.fromkeys(names, pick))

    def draw_integer(self, _):
        steps = [1, 2, 3, 7]
        return {
            "type": "integer",
            **self.bounds(range(-12, 30)),
            **self.maybe(0.3, multipleOf=lambda: self.rng.choice(steps)),
        }

    def draw_number(self, _):
        return {
            **self.maybe(0.8, type=lambda: "number"),
            **self.bounds([-1.5, -0.25, 0, 0.5, 1, 2.75, 10, 100.125]),
            **self.maybe(0.2, multipleOf=lambda: self.rng.choice([0.5, 0.25, 2])),
        }

    def draw_values(self, _):
        values = [self.value(2) for _ in range(self.rng.randint(1, 4))]
        return {"const": values[0]} if self.rng.random() < 0.4 else {"enum": values}

    def draw_object(self, depth):
        names = self.rng.sample(self.NAMES, self.rng.randint(0, 3))

        def pattern_properties():
            return {self.rng.choice(["^a", "b", "c$"]): self.schema(depth + 1)}

        return {
            **self.maybe(0.8, type=lambda: "object"),
            "properties": {name: self.schema(depth + 1) for name in names},
            **self.maybe(0.5, required=lambda: self.rng.sample(self.NAMES, self.rng.randint(0, 2))),
            **self.maybe(0.5, additionalProperties=lambda: self.schema(depth + 1)),
            **self.maybe(0.2, patternProperties=pattern_properties),
            **self.maybe(0.2, minProperties=self.count, maxProperties=lambda: self.count() + 1),
            **self.maybe(0.1, propertyNames=lambda: self.draw_string(depth)),
        }

    def draw_array(self, depth):
        return {
            **self.maybe(0.8, type=lambda: "array"),
            **self.maybe(0.6, items=lambda: self.schema(depth + 1)),
            **self.maybe(0.3, prefixItems=lambda: [self.schema(depth + 1)]),
            **self.maybe(0.3, minItems=self.count, maxItems=lambda: self.count() + 1),
        }

    def draw_bare(self, depth):
        return {**self.draw_array(depth), **self.draw_object(depth), **self.draw_string(depth)}

    def draw_anyOf(self, depth):
        return {"anyOf": [self.schema(depth + 1) for _ in range(self.rng.randint(1, 3))]}

    def draw_allOf(self, depth):
        return {"allOf": [self.schema(depth + 1) for _ in range(self.rng.randint(1, 2))]}

    def value(self, depth=0):
        rng = self.rng
        if depth < 3 and rng.random() < 0.5:
            if rng.random() < 0.5:
                return [self.value(depth + 1) for _ in range(rng.randrange(4))]
            names = rng.sample(self.NAMES, rng.randrange(4))
            return {name: self.value(depth + 1) for name in names}
        scalars = [None, True, False, rng.randrange(-15, 35), rng.choice([0.5, -0.25, 2.75, 7.5])]
        return rng.choice([*scalars, "".join(rng.choices("abé1\t", k=rng.randrange(5)))])


def test_random(driver, rng, n_schemas):
    drawing = Drawing(rng)
    counts = {"schemas": 0, "valid": 0, "invalid": 0, "drawn": 0, "unfinished": 0, "empty": 0}
    failures = []
    for _ in range(n_schemas):
        schema = drawing.schema()
        judge = jsonschema.Draft202012Validator(schema)
        values = [drawing.value() for _ in range(40)]
        texts = [text for value in values for text in spellings(value, rng)]
        reply = driver.ask(schema=schema, texts=texts, draw=4, seed=rng.randrange(2**31))
        if "error" in reply:
            counts["empty"] += 1
            if "no JSON value" not in reply["error"] or any(map(judge.is_valid, values)):
                failures.append(f"{json.dumps(schema)}: {reply['error']}")
            continue
        counts["schemas"] += 1
        verdicts = iter(reply["accepted"])
        for value in values:
            is_valid = judge.is_valid(value)
            counts["valid" if is_valid else "invalid"] += 1
            for text in spellings(value, rng):
                if next(verdicts) != is_valid:
                    failures.append(f"{json.dumps(schema)}: {text}: valid is {is_valid}")
        counts["unfinished"] += reply["n_unfinished"]
        for text in reply["drawn"]:
            counts["drawn"] += 1
            try:
                value = json.loads(text)
            except ValueError as error:
                failures.append(f"{json.dumps(schema)}: drew {text!r}: {error}")
                continue
            if not judge.is_valid(value):
                failures.append(f"{json.dumps(schema)}: drew {text!r}, which is not valid")
    print(f"random schemas: {counts}, {len(failures)} failures")
    if counts["drawn"] < n_schemas or counts["valid"] < n_schemas:
        failures.append("the drawing makes too few texts to say anything")
    return failures


def main():
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(2**31)
    n_schemas = int(sys.argv[3]) if len(sys.argv) > 3 else N_RANDOM
    print(f"seed {seed}")
    rng = random.Random(seed)
    driver = Driver(sys.argv[1])
    failures = test_suite(driver, rng) + test_random(driver, rng, n_schemas)
    for failure in failures[:30]:
        print(failure)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()

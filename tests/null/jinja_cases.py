"""Templates and contexts drawn at random from what chat templates are made of.

A case is a function of its seed. Names that a template sets are never names of the context: Jinja
decides at compile time where such a name is read, which no chat template relies on."""

import random

WORDS = [
    "user",
    "assistant",
    "Hello, world!",
    " padded \n",
    "",
    "x",
    "a,b,c",
    "Größe",
    "☃ snow",
    "emoji 🙂",
    "line\nline",
    "\ttab\t",
    "it's",
    'say "hi"',
    "<b>&amp;</b>",
    "12",
    "-3.5",
    "back\\slash",
    "ab" * 5,
    "\u00a0nb\u2003",
]
KEYS = ["role", "content", "name", "type", "items", "n", "get", "flag"]
CONTEXT = [
    "messages",
    "tools",
    "text",
    "number",
    "real",
    "flag",
    "nothing",
    "mapping",
    "words",
    "numbers",
    "missing",
]
FILTERS = [
    "trim",
    "upper",
    "lower",
    "length",
    "string",
    "list",
    "first",
    "last",
    "tojson",
    "default('d')",
    "default('d', true)",
    "join(', ')",
    "join",
    "capitalize",
    "title",
    "int",
    "float",
    "abs",
    "reverse",
    "sort",
    "unique|list",
    "items|list",
    "tojson(indent=2)",
    "tojson(indent=4, sort_keys=true)",
    "tojson(ensure_ascii=true)",
    "tojson(separators=(',', ':'))",
    "replace('a', 'bb')",
    "replace('l', '', 1)",
    "indent",
    "indent(2, true)",
    "indent(first=true, blank=true)",
    "map('upper')|list",
    "map(attribute='role')|list",
    "map(attribute='role', default='none')|join('-')",
    "selectattr('role')|list",
    "selectattr('role', 'equalto', 'user')|list",
    "selectattr('name', 'defined')|list",
    "rejectattr('flag')|list",
    "rejectattr('role', 'eq', 'x')|list",
    "select('string')|list",
    "reject('none')|list",
    "dictsort",
    "dictsort(true)|list",
    "dictsort(by='value')",
    "min",
    "max",
    "sum",
    "round",
    "round(1)",
    "count",
    "center(9)",
    "safe",
    "sort(reverse=true)",
    "sort(attribute='role')|list",
    "format('x')",
    "reject('equalto', 'x')|list",
    "map('length')|list",
    "trim('x')",
    "int(7)",
]
METHODS = [
    "strip()",
    "lstrip()",
    "rstrip()",
    "strip('ax ')",
    "split()",
    "split(',')",
    "split('a', 1)",
    "rsplit(None, 1)",
    "rsplit('l', 1)",
    "upper()",
    "lower()",
    "title()",
    "capitalize()",
    "startswith('a')",
    "endswith(('x', '!'))",
    "replace('l', 'LL')",
    "replace('', '-')",
    "items()",
    "keys()|list",
    "values()|list",
    "get('role')",
    "get('zz', 'fallback')",
    "find('l')",
    "count('l')",
    "splitlines()",
    "join(['a', 'b'])",
    "format(1)",
    "isdigit()",
    "isalpha()",
    "isspace()",
    "isupper()",
    "islower()",
    "partition(',')",
    "removeprefix('a')",
    "removesuffix('!')",
    "ljust(8)",
    "rjust(8, '*')",
    "zfill(6)",
    "center(8)",
    "index('x')",
    "append(1)",
    "pop()",
    "update({})",
    "swapcase()",
    "nope()",
    "rfind('a')",
    "rpartition(',')",
    "isalnum()",
]
TESTS = [
    "defined",
    "undefined",
    "none",
    "string",
    "mapping",
    "iterable",
    "sequence",
    "boolean",
    "true",
    "false",
    "number",
    "integer",
    "float",
    "odd",
    "even",
    "divisibleby(3)",
    "equalto('x')",
    "eq 1",
    "in [1, 'x']",
    "lower",
    "upper",
    "callable",
    "sameas none",
    "ne 2",
    "gt 1",
]
BINARY = [
    "+",
    "-",
    "*",
    "/",
    "//",
    "%",
    "~",
    "~",
    "+",
    "and",
    "or",
    "==",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
    "in",
    "not in",
]


class Case:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.names = []
        self.in_loop = 0
        self.macros = []
        self.n_names = 0

    def pick(self, items):
        return self.random.choice(items)

    def chance(self, share):
        return self.random.random() < share

    # --- contexts

    def word(self):
        return self.pick(WORDS)

    def value(self, depth=0):
        kind = self.random.randrange(9 if depth < 3 else 6)
        if kind in (0, 1):
            return self.word()
        if kind == 2:
            return self.random.randrange(-20, 200)
        if kind == 3:
            return self.pick([0.5, -1.25, 1e20, 3.0, 1e-7, 123456.789, 1e16, 2.5, -0.0])
        if kind == 4:
            return self.pick([True, False])
        if kind == 5:
            return None
        if kind == 6:
            return [self.value(depth + 1) for _ in range(self.random.randrange(4))]
        return {self.pick(KEYS): self.value(depth + 1) for _ in range(self.random.randrange(4))}

    def message(self):
        made = {"role": self.pick(["user", "assistant", "system", "tool"]), "content": self.word()}
        if self.chance(0.2):
            made[self.pick(KEYS)] = self.value()
        if self.chance(0.1):
            del made[self.pick(list(made))]
        return made

    def context(self):
        made = {
            "messages": [self.message() for _ in range(self.random.randrange(4))],
            "tools": [
                {"name": self.word(), "parameters": self.value()}
                for _ in range(self.random.randrange(3))
            ],
            "text": self.word(),
            "number": self.random.randrange(-5, 9),
            "real": self.pick([0.5, 2.0, -1.75, 1e22]),
            "flag": self.chance(0.5),
            "nothing": None,
            "mapping": {k: self.value(1) for k in self.random.sample(KEYS, 3)},
            "words": [self.word() for _ in range(self.random.randrange(4))],
            "numbers": [self.random.randrange(9) for _ in range(self.random.randrange(4))],
            "bos_token": "<s>",
            "eos_token": "</s>",
        }
        if self.chance(0.2):
            made[self.pick(["text", "mapping", "words", "number"])] = self.value()
        return made

    # --- expressions

    def literal(self):
        kind = self.random.randrange(10)
        if kind < 3:
            word = (
                self.word()
                .replace("\\", "\\\\")
                .replace("'", "\\'")
                .replace("\n", "\\n")
                .replace("\t", "\\t")
            )
            return f"'{word}'"
        if kind < 5:
            return str(self.random.randrange(12))
        if kind == 5:
            return self.pick(["0.5", "2.0", "1e3", "1_000"])
        return self.pick(["true", "False", "none", "None", "[]", "{}", "()", "True"])

    def name(self):
        names = CONTEXT + self.names * 2 + (["loop"] if self.in_loop else [])
        name = self.pick(names)
        if name == "loop":
            return "loop." + self.pick(
                [
                    "index",
                    "index0",
                    "first",
                    "last",
                    "length",
                    "revindex",
                    "revindex0",
                    "previtem",
                    "nextitem",
                    "cycle('a', 'b')",
                    "changed(1)",
                    "depth",
                ]
            )
        return name

    def texts(self, depth):
        """Most of the time an expression that is a text."""
        if self.chance(0.15):
            return self.wrapped(depth)
        word = (
            self.word()
            .replace("\\", "\\\\")
            .replace("'", "\\'")
            .replace("\n", "\\n")
            .replace("\t", "\\t")
        )
        return self.pick(
            ["text", f"'{word}'", f"({self.expression(depth + 2)})|string", "words|join(',')"]
        )

    def lists(self, depth):
        if self.chance(0.15):
            return self.wrapped(depth)
        return self.pick(
            [
                "messages",
                "words",
                "numbers",
                "tools",
                "range(4)",
                "mapping",
                "text",
                "[3, 1, 2]",
                "['b', 'A', 'a']",
            ]
        )

    def numbers(self, depth):
        if self.chance(0.15):
            return self.wrapped(depth)
        return self.pick(
            ["number", "real", "7", "2", "-3", "0.5", "words|length", "flag", "numbers|sum"]
        )

    def expression(self, depth=0):
        if depth > 2:
            return self.name() if self.chance(0.7) else self.literal()
        kind = self.random.randrange(24)

        def inner():
            return self.expression(depth + 1)

        if kind < 5:
            return self.name()
        if kind < 7:
            return self.literal()
        if kind < 10:
            operand = self.pick([self.texts, self.lists, self.numbers, self.wrapped])(depth)
            return f"({operand})|{self.pick(FILTERS)}"
        if kind < 12:
            return f"({self.texts(depth)}).{self.pick(METHODS)}"
        if kind == 12:
            return f"{self.wrapped(depth)}.{self.pick(KEYS)}"
        if kind == 13:
            index = self.pick(["'role'", "'content'", "0", "-1", "1", "'items'", inner()])
            return f"{self.wrapped(depth)}[{index}]"
        if kind == 14:

            def part():
                return self.pick(["", "1", "-1", "2", "0", "-3"])

            step = self.pick(["", ":", ":-1", ":2", ":-2"])
            return f"({self.pick([self.texts, self.lists])(depth)})[{part()}:{part()}{step}]"
        if kind < 17:
            operand = self.pick([self.texts, self.numbers, self.numbers])
            return f"({operand(depth)}) {self.pick(BINARY)} ({operand(depth)})"
        if kind == 17:
            return f"{self.wrapped(depth)} {self.pick(BINARY)} {self.wrapped(depth)}"
        if kind == 18:
            return f"{self.wrapped(depth)} is {self.pick(['', 'not '])}{self.pick(TESTS)}"
        if kind == 19:
            otherwise = f" else {inner()}" if self.chance(0.7) else ""
            return f"({inner()} if {self.wrapped(depth)}{otherwise})"
        if kind == 20:
            return f"[{inner()}, {inner()}]" if self.chance(0.6) else f"({inner()}, {inner()})"
        if kind == 21:
            return "{" + f"'a': {inner()}, {self.literal()}: {inner()}" + "}"
        if kind == 22 and self.macros:
            macro = self.pick(self.macros)
            other = self.pick(["", ", b=" + self.literal()])
            return f"{macro}({inner()}{other})"
        return self.pick(
            [
                f"not {self.wrapped(depth)}",
                f"-{self.wrapped(depth)}",
                f"range({self.random.randrange(5)})|list",
                f"dict(a={inner()})",
                f"'%s-%s' % ({inner()}, 1)",
                f"1 < {self.wrapped(depth)} <= 5",
                f"'%05.1f|%-4d|' % ({inner()}, 3)",
                f"'{{}} {{0}}'.format({inner()})"
                if self.chance(0.1)
                else f"'{{}}:{{k}}'.format({inner()}, k=2)",
            ]
        )

    def wrapped(self, depth):
        text = self.expression(depth + 1)
        return (
            text
            if text.replace("_", "").replace(".", "").isalnum() and not text[0].isdigit()
            else f"({text})"
        )

    # --- statements

    def new_name(self):
        self.n_names += 1
        return f"v{self.n_names}"

    def open(self):
        return self.pick(["{%", "{%", "{%-", "{%-", "{%+"])

    def close(self):
        return self.pick(["%}", "%}", "-%}", "+%}"])

    def tag(self, text):
        return f"{self.open()} {text} {self.close()}"

    def data(self):
        return self.pick(
            [
                "\n",
                "  ",
                "text",
                " a \n",
                "\n\n",
                "<|im_start|>",
                "\n    ",
                "",
                "{ % }",
                "{# note #}",
                "{#- note -#}",
                "é\n",
                "{#+ n +#}\n",
            ]
        )

    def block(self, depth):
        return "".join(self.statement(depth) for _ in range(self.random.randrange(1, 4)))

    def inside(self, depth):
        names = list(self.names)
        text = self.block(depth + 1)
        self.names = names
        return text

    def statement(self, depth):
        kind = self.random.randrange(20 if depth < 3 else 8)
        if kind < 3:
            return self.data()
        if kind < 7:
            return (
                f"{self.pick(['{{', '{{-'])} {self.expression()} {self.pick(['}}', '}}', '-}}'])}"
                + self.pick(["", "\n", " "])
            )
        if kind == 7:
            name = self.new_name()
            text = self.tag(f"set {name} = {self.expression()}")
            self.names.append(name)
            return text
        if kind < 11:
            text = self.tag(f"if {self.expression()}") + self.inside(depth)
            if self.chance(0.3):
                text += self.tag(f"elif {self.expression()}") + self.inside(depth)
            if self.chance(0.4):
                text += self.tag("else") + self.inside(depth)
            return text + self.tag("endif")
        if kind < 15:
            return self.loop(depth)
        if kind == 15:
            name = self.new_name()
            text = self.tag(f"set {name} = namespace(a={self.literal()}, b=[])") + self.tag(
                f"set {name}.a = {self.expression()}"
            )
            self.names.append(f"{name}.a")
            return text
        if kind == 16:
            name = self.new_name()
            text = (
                self.tag(f"set {name}{self.pick(['', ' | trim', ' | upper'])}")
                + self.inside(depth)
                + self.tag("endset")
            )
            self.names.append(name)
            return text
        if kind == 17:
            return (
                self.tag(f"filter {self.pick(['upper', 'trim', 'replace(1, 2)', 'indent'])}")
                + self.without_loop(depth)
                + self.tag("endfilter")
            )
        if kind == 18:
            return self.tag("generation") + self.without_loop(depth) + self.tag("endgeneration")
        return self.macro(depth)

    def without_loop(self, depth):
        in_loop, self.in_loop = self.in_loop, 0
        text = self.inside(depth)
        self.in_loop = in_loop
        return text

    def loop(self, depth):
        names = [self.new_name() for _ in range(self.pick([1, 1, 1, 2]))]
        over = self.pick(
            [
                self.lists(0),
                "messages",
                "words",
                "mapping.items()",
                "mapping|items",
                "tools",
                "range(3)",
                "numbers",
            ]
        )
        if len(names) == 2:
            over = self.pick(
                ["mapping.items()", "mapping|items", "mapping|dictsort", "[[1, 2], 'ab']"]
            )
        outer = list(self.names)
        self.names += names
        test = f" if {self.expression()}" if self.chance(0.2) else ""
        self.in_loop += 1
        text = self.tag(f"for {', '.join(names)} in {over}{test}") + self.block(depth + 1)
        if self.chance(0.2):
            text += (
                self.tag(f"if {self.expression()}")
                + self.tag(self.pick(["break", "continue"]))
                + self.tag("endif")
            )
        self.in_loop -= 1
        self.names = outer
        if self.chance(0.2):
            text += self.tag("else") + self.inside(depth)
        return text + self.tag("endfor")

    def macro(self, depth):
        name = "m" + self.new_name()
        outer = list(self.names)
        parameter, other = self.new_name(), "b"
        self.names += [parameter, other]
        text = (
            self.tag(f"macro {name}({parameter}, {other}={self.literal()})")
            + self.without_loop(depth)
            + self.tag("endmacro")
        )
        self.names = outer
        if depth == 0:
            self.macros.append(name)
        return text


def draw(seed):
    case = Case(seed)
    context = case.context()
    return {"template": case.block(0), "context": context}

"""Makes patterns.json: sets of characters in regular expressions, and what they match in a text of
many kinds of characters. Needed only to change it:

    pip install tokenizers==0.23.1 regex && python tests/golden/patterns/make.py

The reference is Oniguruma, as Hugging Face's `tokenizers` runs it; for the spellings that it does
not know, gc=L and Script=Han, the package `regex`. Each row is {"pattern", "matches"}: the first
character's index and length of each match in "text". Characters are those of Unicode 3.2, whose
properties hardly change any more.
"""

import json
import pathlib
import random
import unicodedata

import regex
from tokenizers import Regex, pre_tokenizers

HERE = pathlib.Path(__file__).parent

CATEGORIES = [
    "Other",
    "C",
    "Control",
    "Cc",
    "Format",
    "Cf",
    "Private_Use",
    "Co",
    "Letter",
    "L",
    "Cased_Letter",
    "LC",
    "Lowercase_Letter",
    "Ll",
    "Modifier_Letter",
    "Lm",
    "Other_Letter",
    "Lo",
    "Titlecase_Letter",
    "Lt",
    "Uppercase_Letter",
    "Lu",
    "Mark",
    "M",
    "Combining_Mark",
    "Spacing_Mark",
    "Mc",
    "Enclosing_Mark",
    "Me",
    "Nonspacing_Mark",
    "Mn",
    "Number",
    "N",
    "Decimal_Number",
    "Nd",
    "Letter_Number",
    "Nl",
    "Other_Number",
    "No",
    "Punctuation",
    "P",
    "Connector_Punctuation",
    "Pc",
    "Dash_Punctuation",
    "Pd",
    "Close_Punctuation",
    "Pe",
    "Final_Punctuation",
    "Pf",
    "Initial_Punctuation",
    "Pi",
    "Other_Punctuation",
    "Po",
    "Open_Punctuation",
    "Ps",
    "Symbol",
    "S",
    "Currency_Symbol",
    "Sc",
    "Modifier_Symbol",
    "Sk",
    "Math_Symbol",
    "Sm",
    "Other_Symbol",
    "So",
    "Separator",
    "Z",
    "Line_Separator",
    "Zl",
    "Paragraph_Separator",
    "Zp",
    "Space_Separator",
    "Zs",
]
SCRIPTS = [
    "Han",
    "Hani",
    "Latin",
    "Greek",
    "Cyrillic",
    "Hiragana",
    "Katakana",
    "Hangul",
    "Arabic",
    "Thai",
    "Common",
]
PROPERTIES = [
    "Alphabetic",
    "Uppercase",
    "Lowercase",
    "White_Space",
    "Any",
    "ASCII",
    "Assigned",
    "Alnum",
    "Alpha",
    "Blank",
    "Cntrl",
    "Digit",
    "Graph",
    "Lower",
    "Print",
    "Punct",
    "Space",
    "Upper",
    "XDigit",
    "Word",
    "Ideographic",
    "Math",
]
POSIX = [
    "alnum",
    "alpha",
    "ascii",
    "blank",
    "cntrl",
    "digit",
    "graph",
    "lower",
    "print",
    "punct",
    "space",
    "upper",
    "word",
    "xdigit",
]
SETS = [
    r"\p{letter}",
    r"\p{UPPERCASE_LETTER}",
    r"\p{uppercase-letter}",
    r"\P{Letter}",
    r"\p{^Letter}",
    r"\P{^Letter}",
    r"\P{Han}",
    r"\p{^Han}",
    r"[\P{Letter}]",
    r"[^\P{Letter}]",
    r"[\p{^L}\d]",
    r"[\p{Letter}\p{Mark}]",
    r"\D+",
    r"\W+",
    r"\S+",
    r"\H+",
    r"[a[bc]]",
    r"[^a[bc]]",
    r"[a[^\p{L}]]",
    r"[\W]",
    r"[^\W]",
    r"[\W_]",
    r"[^\W_]",
    r"[\H]",
    r"[\D\s]",
    r"[^\D\s]",
    r"[^\S\n]",
    r"[]a]",
    r"[^]a]",
    r"[a&b]",
    r"[a~~b]",
    r"[a-z&&[^aeiou]]",
    r"[^a-z&&[^aeiou]]",
    r"[\p{L}&&[^\p{Lu}]]",
    r"[\p{L}&&\p{Lu}]",
    r"[a-zA-Z&&[^A]&&[^Z]]",
    r"[a&&]",
    r"[&&a]",
    r"[a&&b-z]",
    r"[[a-z]&&[^x]z]",
    r"[\p{L}\p{M}&&[^a-z]]+",
    r"[\s&&[^\n]]",
    r"[^\s&&[^\n]]",
    r"[[^\s]&&[^\p{L}]]+",
    r"[\r\n&&\S]",
    r"[\x{41}-\x{5A}&&[^\x42]]",
    r"[\p{L}&&[^\p{Han}\p{Hiragana}]]+",
    r"[^\p{L}&&\p{Alphabetic}]",
    r"[\p{Alphabetic}&&\P{L}]",
    r"[\w&&[^\d_]]+",
    r"[[a-z&&[^b]]x&&[a-y]]",
    r"[a-z-[aeiou]]",
    r"[[:alpha:]&&[^a-z]]",
    r"[[:^alpha:]]",
    r"[^[:^alpha:]]",
    r"[[:alpha:]_-]",
    r"[\]\[]",
    r"[-a]",
    r"[a-]",
    r"[+--]",
    r"[\v]",
    r"\v",
    r"[\x0b\f]",
    r"\u4e2d",
    r"[\u4e00-\u9fff]",
    r"(?i)[a-z&&[^x]]",
    r"(?i:[A&&A])",
    r"[^\r\n\p{L}\p{N}]?[\p{Letter}&&[^\p{Lu}]]+|\s+(?!\S)|\s+",
]


def text():
    rng = random.Random(3)
    kinds = {}
    for code in range(0x110000):
        category = unicodedata.ucd_3_2_0.category(chr(code))
        if category not in ("Cn", "Cs"):
            kinds.setdefault(category, []).append(chr(code))
    characters = list(
        " \t\r\n\x0baexyzABXZ09_-+$^[]&~.,!'\u4e2d\u3072\u30ab\ud55c\u0e01\u0391\u0416"
    )
    for members in kinds.values():
        characters += rng.sample(members, min(8, len(members)))
    characters += [rng.choice("abcxyzABZ 0") for _ in range(80)]
    rng.shuffle(characters)
    return "".join(characters)


def of_oniguruma(pattern, text):
    parts = pre_tokenizers.Split(Regex(pattern), "isolated").pre_tokenize_str(text)
    # A part is a match or what lies between two: alone, with nothing around it, is not enough.
    pieces = pre_tokenizers.Split(Regex(pattern), "removed").pre_tokenize_str(text)
    between = {span for _, span in pieces}
    return [[begin, end - begin] for _, (begin, end) in parts if (begin, end) not in between]


def of_regex(pattern, text):
    return [[m.start(), m.end() - m.start()] for m in regex.finditer(pattern, text) if m.group()]


def main():
    whole = text()
    rows = []
    for name in [f"\\p{{{name}}}" for name in CATEGORIES + SCRIPTS + PROPERTIES]:
        rows.append({"pattern": name, "matches": of_oniguruma(name, whole)})
    for name in [f"[[:{name}:]]" for name in POSIX]:
        rows.append({"pattern": name, "matches": of_oniguruma(name, whole)})
    for pattern in [*SETS, r"\p{Uppercase Letter}"]:
        rows.append({"pattern": pattern, "matches": of_oniguruma(pattern, whole)})
    for name in ["gc=L", "gc=Lu", "General_Category=Letter", "general_category=Uppercase_Letter"]:
        rows.append({"pattern": f"\\p{{{name}}}", "matches": of_regex(f"\\p{{{name}}}", whole)})
    for name in ["sc=Han", "Script=Han", "script=Latin", "sc=Grek", "Script=Hiragana"]:
        rows.append({"pattern": f"\\P{{{name}}}", "matches": of_regex(f"\\P{{{name}}}", whole)})
    content = {"text": whole, "patterns": rows}
    (HERE / "patterns.json").write_text(json.dumps(content, separators=(",", ":")) + "\n")
    print(len(rows), "patterns,", len(whole), "characters")


if __name__ == "__main__":
    main()

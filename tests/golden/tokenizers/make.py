"""Makes the fixtures of this folder: small tokenizers of every supported kind, and what Hugging
Face's `tokenizers` gives for a list of difficult strings. Needed only to change them:

    pip install tokenizers==0.22.1 && python tests/golden/tokenizers/make.py [NAME ...]

Each NAME.json is {"tokenizer": <tokenizer.json>, "cases": [{"text", "ids", "plain_ids",
"decoded_all", "decoded"}], "sequences": [{"ids", "decoded"}]}: `ids` with special tokens added,
`plain_ids` without (absent: the same); `decoded_all` is what `ids` decode to (absent: the text),
`decoded` the same without special tokens (absent: no difference). Sequences are ids that no text
encodes to.
"""

import json
import pathlib
import random
import sys

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    processors,
    trainers,
)
from tokenizers import pre_tokenizers as pre

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent.parent

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")
POSSESSIVE = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*"
    r"|\s*[\r\n]|\s+(?!\S)|\s+"
)
O200K = "|".join(
    [
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)

TEXTS = [
    "",
    " ",
    "  ",
    "\n",
    "Hello world",
    " Hello  world ",
    "I'm can't WE'LL they'Ve it'ſ he's",
    "   leading and trailing   ",
    "tabs\t\tand\nnew\r\nlines\n\n\n  x \r y",
    "12345678 3.14 0x1F 1,000,000 ½ Ⅷ ٣٤٥ 五",
    "def f(x: int) -> str:\n    return f'{x!r:>10}' # comment\n\n\nclass A(B):\n\tpass\n",
    "naïve café Ångström cafe\u0301 A\u030angstro\u0308m ﬁ ²",
    "日本語のテキスト 中文 한국어 한",
    "🙂👩‍👩‍👧 emoji 🇩🇪 ❤️ \U0001f468\U0001f3fd‍\U0001f680",
    "a" * 300,
    "ab" * 50 + "!" * 40 + "=" * 70,
    "<s>inside</s> <|special|>text<|special|> <unk> [MASK] x[MASK]y <pad>",
    "a<|special|>   b   <|special|>c  wordy word words word",
    "▁already ▁▁ metaspace ▁",
    "<0x41> <0xE2><0x82><0xAC>",
    "Ġalphabet Ċ ĉ",
    "\u00a0nbsp\u2003em\u3000ideographic\u180emongolian\u200bzero\u0085nel\u2028ls",
    "İstanbul ΣΑΣ straße ǅ ﬀ Ω",
    "مرحبا بالعالم עברית हिन्दी ไทย",
    "snake_case camelCase HTTPServer2 x86_64 __init__ a-b a–b “quotes” ‘x’",
    "http://example.com/a?b=c&d=%20#frag user@host.org",
    "!@#$%^&*()[]{};:,.<>/?\\|`~\"'",
    "\x00\x01\x7f control \ufeff bom \ufffd",
    "word,word;word. Word! (word)",
    "mixed١٢3४٥ digits a1b22c333d4444",
    "e\u0315\u0300\u05ae\u0062 \u1100\u1161\u11a8",
    "\ud7a3\uac00 \U0001d400 \u0345\u1e9e \u212b\u2126",
]


def corpus():
    files = sorted((ROOT / "docs").glob("*.md")) + sorted((ROOT / "src" / "base").glob("*.*"))
    lines = [line for file in files for line in file.read_text().splitlines()]
    return lines + TEXTS * 2


def train(tokenizer, size, **options):
    trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False, **options)
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


def byte_level(size, pre_tokenizer, special=(), **model):
    tokenizer = Tokenizer(models.BPE(**model))
    tokenizer.pre_tokenizer = pre_tokenizer
    train(tokenizer, size, special_tokens=list(special), initial_alphabet=pre.ByteLevel.alphabet())
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def split(pattern, behavior="isolated", invert=False):
    return pre.Split(Regex(pattern), behavior, invert)


def with_regex(pattern, size=420, **model):
    parts = [split(pattern), pre.ByteLevel(add_prefix_space=False, use_regex=False)]
    return byte_level(size, pre.Sequence(parts), **model)


def template(tokenizer, single):
    names = [name for name in single.split() if not name.startswith("$")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, special_tokens=[(name, tokenizer.token_to_id(name)) for name in names]
    )


def llama3():
    tokenizer = with_regex(LLAMA3, ignore_merges=True)
    tokenizer.add_special_tokens(["<s>", "</s>", "<|special|>"])
    byte_level_only = processors.ByteLevel(trim_offsets=False)
    template(tokenizer, "<s> $A")
    tokenizer.post_processor = processors.Sequence([byte_level_only, tokenizer.post_processor])
    return tokenizer


def qwen2():
    tokenizer = with_regex(QWEN2)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_special_tokens(["<|special|>"])
    tokenizer.add_tokens([AddedToken("cafe\u0301", normalized=True), AddedToken("word")])
    return tokenizer


def gpt2():
    tokenizer = byte_level(420, pre.ByteLevel(add_prefix_space=True), ["<|special|>"])
    tokenizer.add_tokens(
        [
            AddedToken("[MASK]", lstrip=True, normalized=False),
            AddedToken("word", single_word=True, rstrip=True, normalized=False),
            AddedToken("<pad>", rstrip=True, lstrip=True, special=True, normalized=False),
        ]
    )
    return tokenizer


def starcoder():
    parts = [pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False)]
    return byte_level(420, pre.Sequence(parts), ["<|special|>", "<unk>"])


def possessive():
    return with_regex(POSSESSIVE)


def o200k():
    return with_regex(O200K)


def deepseek():
    parts = [
        split(r"\p{N}{1,3}"),
        split("[一-龥぀-ゟ゠-ヿ]+"),
        split(
            r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?"
            r"[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        ),
        pre.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
    return byte_level(420, pre.Sequence(parts))


def sentencepiece(size=520, **model):
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, **model))
    tokenizer.pre_tokenizer = pre.Metaspace()
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    train(tokenizer, size, special_tokens=["<unk>", "<s>", "</s>", *byte_tokens], limit_alphabet=90)
    config = json.loads(tokenizer.to_str())
    config["added_tokens"] = config["added_tokens"][:3]
    return Tokenizer.from_str(json.dumps(config))


def llama2():
    tokenizer = sentencepiece(fuse_unk=True)
    tokenizer.pre_tokenizer = None
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens(["<|special|>"])
    tokenizer.add_tokens([AddedToken("word", normalized=True)])
    template(tokenizer, "<s> $A </s>")
    return tokenizer


def mistral():
    tokenizer = sentencepiece()
    tokenizer.pre_tokenizer = pre.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = llama2().decoder
    tokenizer.add_special_tokens(["<|special|>"])
    template(tokenizer, "<s> $A")
    return tokenizer


def gemma():
    """Nothing is put before a text, and its blanks go with the word before them."""
    tokenizer = sentencepiece(fuse_unk=True)
    tokenizer.pre_tokenizer = pre.Split(" ", "merged_with_previous")
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens(["<|special|>"])
    template(tokenizer, "<s> $A")
    return tokenizer


def phi3():
    """Llama 2's, with special tokens that take the blanks behind them along."""
    tokenizer = llama2()
    tokenizer.add_special_tokens(
        [
            AddedToken("<|special|>", rstrip=True, normalized=False),
            AddedToken("<|end|>", rstrip=True),
        ]
    )
    template(tokenizer, "$A")
    return tokenizer


def metaspace(scheme):
    tokenizer = sentencepiece(420)
    tokenizer.pre_tokenizer = pre.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    tokenizer.add_special_tokens(["<|special|>"])
    return tokenizer


def characters(pre_tokenizer, normalizer=None, decoder=None, **model):
    """Few merges and no bytes: what matters is where words are cut and what is unknown."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", **model))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    options = {"continuing_subword_prefix": "##"} if "continuing_subword_prefix" in model else {}
    if "end_of_word_suffix" in model:
        options["end_of_word_suffix"] = "</w>"
    train(tokenizer, 330, special_tokens=["<unk>"], limit_alphabet=110, **options)
    if decoder is not None:
        tokenizer.decoder = decoder
    return tokenizer


TOKENIZERS = {
    "llama3": llama3,
    "qwen2": qwen2,
    "gpt2": gpt2,
    "starcoder": starcoder,
    "possessive": possessive,
    "o200k": o200k,
    "deepseek": deepseek,
    "llama2": llama2,
    "mistral": mistral,
    "gemma": gemma,
    "phi3": phi3,
    "metaspace_always": lambda: metaspace("always"),
    "metaspace_first": lambda: metaspace("first"),
    "metaspace_never": lambda: metaspace("never"),
    "whitespace_lower": lambda: characters(
        pre.Whitespace(),
        normalizers.Sequence(
            [normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]
        ),
        fuse_unk=True,
    ),
    "punctuation_nfkc": lambda: characters(
        pre.Sequence([pre.WhitespaceSplit(), pre.Punctuation("merged_with_previous")]),
        normalizers.Sequence(
            [normalizers.Strip(), normalizers.NFKC(), normalizers.Replace(Regex("a+"), "A")]
        ),
        decoder=decoders.Fuse(),
        continuing_subword_prefix="##",
    ),
    "digits_nfkd": lambda: characters(
        pre.Sequence(
            [
                pre.Split(" ", "merged_with_next"),
                pre.Digits(),
                pre.Punctuation("contiguous"),
                split(r"\w+\b|\d", "removed", True),
                split("o", "merged_with_previous"),
            ]
        ),
        normalizers.NFKD(),
        end_of_word_suffix="</w>",
    ),
}


def random_texts(n_texts, rng):
    """Strings that nobody would write: the classes of characters in all neighbourhoods."""
    alphabet = list("  \t\n\r'sSlLabZ09.,!_-<|>▁") + [
        "é", "e\u0301", "ß", "中", "한", "🙂", "\u200d", "\u00a0", "\u3000", "½", "٣", "ſ", "İ",
        "\u0300", "“", "€", "word", "<|special|>", "[MASK]", "<s>", "'ll", "\u180e", "\u2028",
    ]  # fmt: skip
    return ["".join(rng.choices(alphabet, k=rng.randrange(1, 40))) for _ in range(n_texts)]


def case(tokenizer, text):
    ids = tokenizer.encode(text).ids
    plain_ids = tokenizer.encode(text, add_special_tokens=False).ids
    decoded_all = tokenizer.decode(ids, skip_special_tokens=False)
    decoded = tokenizer.decode(ids)
    row = {"text": text, "ids": ids}
    if plain_ids != ids:
        row["plain_ids"] = plain_ids
    if decoded_all != text:
        row["decoded_all"] = decoded_all
    if decoded != decoded_all:
        row["decoded"] = decoded
    return row


def main(*names, out=HERE, n_random=8):
    for name in names or TOKENIZERS:
        make = TOKENIZERS[name]
        rng = random.Random(name)
        tokenizer = make()
        n_tokens = tokenizer.get_vocab_size()
        sequences = [
            [rng.randrange(n_tokens) for _ in range(rng.randrange(1, 24))] for _ in range(6)
        ]
        row = {
            "tokenizer": json.loads(tokenizer.to_str()),
            "cases": [case(tokenizer, text) for text in TEXTS + random_texts(n_random, rng)],
            "sequences": [
                {"ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False)}
                for ids in sequences
            ],
        }
        text = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
        (pathlib.Path(out) / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

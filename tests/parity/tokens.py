"""Captions, plain and very odd, and their ids by transformers' CLIPTokenizer."""

import json
import random
import unicodedata

import torch
from safetensors.torch import save_file
from transformers import CLIPTokenizer

ODD = [
    "", " ", "\t\n  \r\n", "don't can't I'll we've they're I'm he'd it's 'tis ''s", "DON'T SHOUT'S",
    "a<|endoftext|>b", "<|startoftext|>", "<|ENDOFTEXT|>", "<|StartOfText|>x", "<|endoftext", "|>",
    "İstanbul ıI", "ΟΔΥΣΣΕΥΣ ὈΔΥΣΣΕΎΣ", "Straße STRASSE ẞ", "ǅ ǈ ǋ ǲ", "e\u0301 é E\u0301 É", "ﬁ ﬂ ﬀ ﬅ", "Å Å Å",
    "가 각 한글", "नमस्ते दुनिया", "שָׁלוֹם", "مرحبا بالعالم", "你好,世界!", "こんにちは カタカナ", "ไทยแลนด์",
    "①②③ ½⅓ Ⅷ ⅷ ٣٤٥ 1234567890", "x²+y³=z⁴", "a\u00a0b\u2003c\u3000d\u1680e\u202ff", "a\u200bb\u200cc\u200dd\ufeffe",
    "a\u0085b\u001cc\u001fd\u180ee", "\u0000\u0001\u007f", "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪 1️⃣", "😀😃😄", "\U0001F9D1\U0001F3FF\u200D\U0001F680",
    "…—–‘’“”«»", "¿Qué? ¡No!", "http://example.com/a?b=c&d=e#f", "C++ & C#; 50% off!!! $9.99 @home", "snake_case-and-kebab",
    "\ufffd \ufffe", "\U0010ffff", "a" * 300, "!" * 300, "ab" * 200, "Z̸̢a̷l̵g̶o̴ ̷t̸e̵x̶t̷", "ㅎㅏㄴ ᄒ\u1161ᆫ", "ﷺ", "㎏ ㏒", "𝒳 𝔘 𝟘",
    "Ǆ ŉ ſ K Ω", "\u0345\u0344", "ά ά", "x\u0323\u0307 x\u0307\u0323",
]
WORDS = ("a photo of the red heart cat face smiling with eyes blue circle monkey see no evil rocket ship sks drawing "
         "Grinning Face, In Style Of Van Gogh; 3 2023 emoji: (tiny) best-quality masterpiece").split()


def captions():
    rng = random.Random(7)
    yield from ODD
    for _ in range(450):
        yield " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 40)))
    assigned = [c for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
    low = [c for c in assigned if c < 0x600]
    for _ in range(350):
        yield "".join(chr(rng.choice(low)) for _ in range(rng.randint(1, 30)))
    for _ in range(450):
        yield "".join(chr(rng.choice(assigned)) for _ in range(rng.randint(1, 30)))
    for _ in range(150):
        yield "".join(rng.choice([*"aAbB eE1 '.!", "\u0301", "\u0327", "\u00e9", "\u0130", "\u200d", "\n"])
                      for _ in range(rng.randint(1, 40)))


def write(repository, out):
    texts = list(captions())
    tokenizer = CLIPTokenizer.from_pretrained(repository / "configs/bases/emoji-sd/tokenizer")
    rows = tokenizer(texts, padding="max_length", max_length=32, truncation=True, return_tensors="pt").input_ids
    long_rows = tokenizer(texts, padding="max_length", max_length=400, truncation=True, return_tensors="pt").input_ids
    save_file(dict(ids=rows.contiguous(), long_ids=long_rows.to(torch.int32).contiguous()), out / "tokens.safetensors")
    (out / "tokens.json").write_text(json.dumps(texts))

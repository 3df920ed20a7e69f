"""Made-up tokenizer folders of every age of transformers, and the ids that its CLIPTokenizer gives for odd texts.

Each folder has a small byte-level vocabulary and some of the six files that define a tokenizer, with special and added tokens of
every combination of flags in every one of the places where they can stand. The C++ side must give the same ids; it may refuse
only what the case says it may.
"""

import json
import random
import re
import shutil
import unicodedata

from transformers import CLIPTokenizer

SEED, COUNT, LENGTH = 11, 160, 24
CONTENTS = ["<cat-toy>", "<Cat-Toy>", "sks", "SKS", "new token", "New  Token", "cat", "é", "E\u0301", "ΣΑΣ", "猫", "don't", ".", "!", "a",
            "<x>", "<x>1", " gap", "gap ", "</w>", "\u200d", "_", "<|image|>", "[PAD]", "İ", "#7", "ab</w>"]
MERGES = ["a b</w>", "c a", "ca t</w>", "t o", "to y</w>", "s k", "sk s</w>", "n e", "ne w</w>", "to k", "e n</w>", "tok en</w>", "o f</w>",
          "1 2</w>", ". .</w>"]


def byte_characters():
    visible = [b for b in range(256) if 0x21 <= b <= 0x7E or 0xA1 <= b <= 0xAC or 0xAE <= b]
    others = [b for b in range(256) if b not in visible]
    return [chr(b) for b in visible] + [chr(0x100 + i) for i in range(len(others))]


def vocabulary():
    characters = byte_characters()
    tokens = characters + [c + "</w>" for c in characters] + ["".join(m.split(" ")) for m in MERGES]
    return {token: i for i, token in enumerate(tokens + ["<|startoftext|>", "<|endoftext|>"])}


def token(rng, content, **fixed):
    flags = {key: rng.random() < 0.3 for key in ("single_word", "lstrip", "rstrip", "normalized", "special")}
    return dict(content=content, **{**flags, **fixed})


def texts(rng, contents):
    pieces = [*contents, *contents, *[c.upper() for c in contents], *[c.lower() for c in contents], " ", "  ", "\t", "\n", "\u00a0", "\u3000", "a",
              "cat", "TOY", "x1", "1", "!", "..", "'s", "_", "é", "E\u0301", "Σ", "猫", "\u0301", "\U0001f600", "<|startoftext|>", "<|EndOfText|>", "<|endoftext|>", "of"]
    yield ""
    for content in contents:
        yield f"a photo of {content}, new"
        yield f"x{content}y"
    for _ in range(14):
        yield "".join(rng.choice(pieces) + rng.choice(["", "", " "]) for _ in range(rng.randint(1, 12)))


def folder_files(rng):
    """name → content, and whether everything in it is as transformers itself would write it."""
    vocab = vocabulary()
    # Of two that are the same once normalised, the tokenizers library takes one by chance.
    normal = {re.sub(r"\s+", " ", unicodedata.normalize("NFC", content)).lower(): content for content in rng.sample(CONTENTS, len(CONTENTS))}
    contents = rng.sample(sorted(normal.values()), rng.choice([0, 1, 1, 2, 3, 5]))
    specials = dict(bos_token="<|startoftext|>", eos_token="<|endoftext|>", unk_token="<|endoftext|>", pad_token="<|endoftext|>")
    if rng.random() < 0.5:
        specials["pad_token"] = rng.choice(["!", "<|startoftext|>", "[PAD]", "a", *contents])
    if rng.random() < 0.2:
        specials["mask_token"] = rng.choice(["<mask>", *contents])

    def named(key, as_config):
        content = specials[key]
        if rng.random() < 0.5:
            return content
        value = token(rng, content)
        value.pop("special")
        return dict(value, __type="AddedToken") if as_config else value

    config = dict(tokenizer_class="CLIPTokenizer", model_max_length=LENGTH, do_lower_case=True, errors="replace")
    config |= {key: named(key, True) for key in specials if rng.random() < 0.8 or key == "pad_token"}
    files = {}
    if rng.random() < 0.6:
        files["special_tokens_map.json"] = {key: named(key, False) for key in specials if rng.random() < 0.8}
        if rng.random() < 0.3:
            files["special_tokens_map.json"]["additional_special_tokens"] = rng.sample(contents, rng.randint(0, len(contents)))
    if rng.random() < 0.2:
        config[rng.choice(["additional_special_tokens", "extra_special_tokens"])] = [*rng.sample(contents, rng.randint(0, len(contents))), "<extra>"]
    if rng.random() < 0.1:
        config["image_token"] = "<|image|>"

    added, following = {}, len(vocab)
    for content in contents:
        if content in vocab:
            added[vocab[content]] = token(rng, content)
        else:
            added[following] = token(rng, content)
            following += 1
    wrong = bool(added) and rng.random() < 0.05
    if wrong:
        added[following + 7] = token(rng, "<far>")
    place = rng.choice(["added_tokens.json", "added_tokens_decoder", "tokenizer.json", "added_tokens.json and tokenizer.json"])
    special_ids = {vocab[content]: token(rng, content, special=True) for content in ("<|startoftext|>", "<|endoftext|>")}
    if place == "added_tokens_decoder":
        config["added_tokens_decoder"] = {str(i): value for i, value in {**special_ids, **added}.items()}
    if "added_tokens.json" in place:
        files["added_tokens.json"] = {value["content"]: i for i, value in added.items()}
    if "tokenizer.json" in place or rng.random() < 0.3:
        listed = {**special_ids, **added} if "tokenizer.json" in place.split(" and ") else special_ids
        joined = [m if rng.random() < 0.5 else m.split(" ") for m in MERGES] if rng.random() < 0.3 else [m.split(" ") for m in MERGES]
        if any(isinstance(m, str) for m in joined):
            joined = list(MERGES)
        files["tokenizer.json"] = dict(
            version="1.0", truncation=None, padding=None, added_tokens=[dict(id=i, **value) for i, value in sorted(listed.items())],
            normalizer=dict(type="Sequence", normalizers=[dict(type="NFC"), dict(type="Replace", pattern=dict(Regex="\\s+"), content=" "),
                                                          dict(type="Lowercase")]),
            pre_tokenizer=dict(type="Sequence", pretokenizers=[
                dict(type="Split", pattern=dict(Regex="'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+"), behavior="Removed",
                     invert=True), dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True)]),
            post_processor=dict(type="RobertaProcessing", sep=["<|endoftext|>", vocab["<|endoftext|>"]],
                                cls=["<|startoftext|>", vocab["<|startoftext|>"]], trim_offsets=False, add_prefix_space=False),
            decoder=dict(type="ByteLevel", add_prefix_space=True, trim_offsets=True),
            model=dict(type="BPE", dropout=None, unk_token="<|endoftext|>", continuing_subword_prefix="", end_of_word_suffix="</w>",
                       fuse_unk=False, vocab=vocab, merges=joined))
    if "tokenizer.json" not in files or rng.random() < 0.3:
        files["vocab.json"] = vocab
        files["merges.txt"] = "#version: 0.2\n" + "\n".join(MERGES) + "\n"
    files["tokenizer_config.json"] = config
    return files, contents, wrong


def write(repository, out):
    rng = random.Random(SEED)
    root = out / "tokenizers"
    shutil.rmtree(root, ignore_errors=True)
    cases = []
    for number in range(COUNT):
        files, contents, wrong = folder_files(rng)
        folder = root / str(number)
        folder.mkdir(parents=True)
        for name, content in files.items():
            (folder / name).write_text(content if isinstance(content, str) else json.dumps(content, ensure_ascii=rng.random() < 0.5), encoding="utf-8")
        asked = list(texts(rng, contents))
        case = dict(folder=str(number), wrong_id=wrong, texts=asked)
        try:
            tokenizer = CLIPTokenizer.from_pretrained(folder)
            case["ids"] = tokenizer(asked, padding="max_length", max_length=LENGTH, truncation=True).input_ids
            case["pad"] = tokenizer.pad_token_id
        except Exception as error:  # then it is for the C++ side to refuse or to read
            case["error"] = f"{type(error).__name__}: {error}"[:200]
        cases.append(case)
    (out / "tokenizers.json").write_text(json.dumps(cases))

"""Made-up safetensors files, good and bad, and what the safetensors library reads of each: every array's type, shape and bytes,
or that it refuses the file."""

import json
import random
import shutil
import struct

import safetensors

BITS = dict(BOOL=8, U8=8, I8=8, F8_E5M2=8, F8_E4M3=8, F8_E8M0=8, F8_E4M3FNUZ=8, F8_E5M2FNUZ=8, F4=4, F6_E2M3=6, F6_E3M2=6, I16=16, U16=16,
            F16=16, BF16=16, I32=32, U32=32, F32=32, F64=64, I64=64, U64=64, C64=64)
COUNT = 500


def header(rng):
    entries, at = {}, 0
    for number in range(rng.randint(0, 4)):
        dtype = rng.choice(list(BITS))
        shape = [rng.choice([0, 1, 2, 3, 4, 8]) for _ in range(rng.choice([0, 1, 1, 2, 3]))]
        bits = BITS[dtype]
        for extent in shape:
            bits *= extent
        size = (bits + 7) // 8
        entries[f"w{number}"] = dict(dtype=dtype, shape=shape, data_offsets=[at, at + size])
        at += size
    items = list(entries.items())
    rng.shuffle(items)
    return dict(items), at


def change(rng, entries, size):
    """One thing that may or may not matter."""
    entry = rng.choice(list(entries.values())) if entries else {}
    kind = rng.randint(0, 15)
    if kind == 0:
        entries["__metadata__"] = rng.choice([None, {}, {"a": "b"}, {"a": None}, {"a": 1}, [], "x", {"a": "b", "format": "pt"}])
    elif kind == 1:
        entry["note"] = rng.choice([None, 1, "x", [[]], {"a": [1]}])
    elif kind == 2 and entry:
        entry.pop(rng.choice(list(entry)))
    elif kind == 3 and entry:
        entry["dtype"] = rng.choice([*BITS, "F8", "f32", "", None, 3, "F128"])
    elif kind == 4 and entry:
        entry["shape"] = rng.choice([[2.0], [-1], ["2"], None, 2, [2 ** 40, 2 ** 40], [0, 2 ** 63], [2 ** 64], [True], [1] * 40])
    elif kind == 5 and entry:
        entry["data_offsets"] = rng.choice([[0], [0, 1, 2], [0, None], [1, 0], [0, 2 ** 64], [0.0, 1.0], None, [-1, 3], [0, size + 4]])
    elif kind == 6:
        size += rng.choice([-3, -1, 1, 8])
    elif kind == 7:
        entries[rng.choice(["", "é", "a\\b", "\u0000", "z" * 300])] = dict(dtype="U8", shape=[0], data_offsets=[size, size])
    elif kind == 8 and entry:  # a gap or an overlap
        entry["data_offsets"] = [value + 1 if isinstance(value, int) else value for value in entry.get("data_offsets") or []]
    return max(size, 0)


def write(repository, out):
    rng = random.Random(23)
    folder = out / "safetensors_files"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    cases = []
    for number in range(COUNT):
        entries, size = header(rng)
        for _ in range(rng.choice([0, 1, 1, 2])):
            size = change(rng, entries, size)
        text = json.dumps(entries, ensure_ascii=rng.random() < 0.5).encode()
        if rng.random() < 0.3:
            text = rng.choice([text + b"   ", b" " + text, text + b"\n\t", text + b"\0", text + b"x", b"\xef\xbb\xbf" + text, text[:-1],
                               text.replace(b"w0", b"w\xff"), text.replace(b'"dtype"', b'"dtype": "U8", "dtype"', 1),
                               text.replace(b"[0", b"[00", 1), text.replace(b"[0", b"[-0", 1), text.replace(b": ", b": NaN, ", 1)])
        data = bytes(rng.randrange(256) for _ in range(size))
        whole = struct.pack("<Q", len(text)) + text + data
        (folder / f"{number}.safetensors").write_bytes(whole)
        case = dict(name=str(number))
        try:
            case["arrays"] = {name: dict(dtype=array["dtype"], shape=array["shape"], data=bytes(array["data"]).hex())
                              for name, array in safetensors.deserialize(whole)}
        except Exception as error:
            case["error"] = str(error)[:200]
        cases.append(case)
    (out / "safetensors_files.json").write_text(json.dumps(cases))

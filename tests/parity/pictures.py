"""Picture files, what Pillow reads and resizes them to, and what CLIP's preprocessing makes of them."""

import json
import shutil

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil


def pictures(rng):
    def smooth(h, w, c):
        coarse = rng.integers(0, 256, (max(h // 7, 2), max(w // 7, 2), c), dtype=np.uint8)
        return np.stack([np.asarray(Image.fromarray(coarse[..., i]).resize((w, h), Image.BILINEAR))
                         for i in range(c)], -1)

    yield "rgb.png", Image.fromarray(smooth(50, 71, 3)), {}
    yield "noise.png", Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)), {}
    yield "small.png", Image.fromarray(rng.integers(0, 256, (9, 17, 3), dtype=np.uint8)), {}
    yield "tall.png", Image.fromarray(smooth(333, 65, 3)), {}
    yield "rgba.png", Image.fromarray(smooth(70, 90, 4), "RGBA"), {}
    yield "grey.png", Image.fromarray(smooth(80, 80, 1)[..., 0]), {}
    yield "palette.png", Image.fromarray(smooth(81, 80, 3)).quantize(17), {}
    yield "photo.jpg", Image.fromarray(smooth(120, 203, 3)), dict(quality=85)
    yield "grey.jpg", Image.fromarray(smooth(100, 67, 1)[..., 0]), dict(quality=90)
    yield "progressive.jpg", Image.fromarray(smooth(90, 90, 3)), dict(quality=70, progressive=True)


def write(repository, out):
    folder = out / "pictures"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    processor = CLIPImageProcessorPil.from_pretrained(repository / "configs/scorers/emoji-clip")
    arrays, names = {}, []
    for name, picture, options in pictures(np.random.default_rng(400)):
        picture.save(folder / name, **options)
        read = Image.open(folder / name).convert("RGB")
        arrays[f"{name}.rgb"] = torch.from_numpy(np.array(read))
        for width, height in ((64, 64), (31, 97), (128, 100)):
            arrays[f"{name}.{width}x{height}"] = torch.from_numpy(
                np.array(read.resize((width, height), Image.BICUBIC)))
        arrays[f"{name}.clip"] = processor(read, return_tensors="pt").pixel_values[0].contiguous()
        names.append(name)
    save_file(arrays, out / "pictures.safetensors")
    (out / "pictures.json").write_text(json.dumps(names))

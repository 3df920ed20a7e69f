"""What `loupe-worker export` writes, read by the programs it is for.

    export_test.py REPOSITORY LOUPE_WORKER

An adapter file is written here from docs/formats.md alone. Merged into the base and loaded by diffusers, it must give the
pictures that `loupe-worker sample` gives with the adapter attached; one file per module must load with torch.load and hold the
same numbers under the original code's names.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
import zipfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["DIFFUSERS_VERBOSITY"] = "error"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from safetensors.torch import save_file

REPOSITORY, WORKER = pathlib.Path(sys.argv[1]), sys.argv[2]
BASE = REPOSITORY / "configs/bases/emoji-sd"
PROMPT, SEED, STEPS, GUIDANCE = "a photo of a red heart", 5, 10, 3.0
# Of an adapter; far from 0, so that a picture with it is another picture.
WIDTH, SCALE = 6, 0.5


def block_widths(unet):
    return {name: module.norm1.normalized_shape[0] for name, module in unet.named_modules()
            if type(module).__name__ == "BasicTransformerBlock"}


def write_adapter(path, unet, position_in, position_out, activation):
    generator = torch.Generator().manual_seed(9)
    arrays = {}
    for block, width in block_widths(unet).items():
        width = unet.config.cross_attention_dim if position_in == "CA_c" else width
        arrays[f"{block}.adapter.down.weight"] = torch.randn(WIDTH, width, generator=generator) / width**0.5
        arrays[f"{block}.adapter.down.bias"] = torch.randn(WIDTH, generator=generator) * 0.1
        arrays[f"{block}.adapter.up.weight"] = torch.randn(width, WIDTH, generator=generator) / WIDTH**0.5
        arrays[f"{block}.adapter.up.bias"] = torch.randn(width, generator=generator) * 0.1
    settings = {"base": str(BASE), "scorer": "s", "task.images": "i", "task.instance_prompt": "a", "task.class_prompt": "b",
                "method.input": position_in, "method.output": position_out, "method.activation": activation,
                "method.scale": str(SCALE), "method.width": str(WIDTH), "budget.steps": "1"}
    metadata = {"loupe.format": "loupe-adapter-v1", "loupe.settings": json.dumps(settings), "loupe.cell": "{}",
                "loupe.sweep_seed": "0", "loupe.replicate": "0", "loupe.steps": "1", "loupe.trial": "",
                "loupe.base_sha256": "", "loupe.provenance": "{}", "format": "pt"}
    save_file(arrays, path, metadata)
    return arrays


def diffusers_picture(folder):
    pipeline = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    size = pipeline.unet.config.sample_size
    noise = torch.randn(1, 4, size, size, generator=torch.Generator().manual_seed(SEED))
    image = pipeline(PROMPT, latents=noise, num_inference_steps=STEPS, guidance_scale=GUIDANCE, output_type="np").images[0]
    return (image * 255).round().astype(np.int64)


class ExportTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = pathlib.Path(self.folder.name)
        self.unet = UNet2DConditionModel.from_pretrained(BASE / "unet")

    def worker(self, *arguments):
        return subprocess.run([WORKER, *map(str, arguments)], capture_output=True, text=True)

    def export(self, layout, out):
        return self.worker("export", "--base", BASE, "--adapter", self.path / "a.safetensors", "--out", out, "--as", layout)

    def worker_picture(self, *arguments):
        done = self.worker("sample", "--base", BASE, "--prompt", PROMPT, "--seed", SEED, "--steps", STEPS, "--guidance",
                           GUIDANCE, "--out", self.path / "p.png", *arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        return np.asarray(Image.open(self.path / "p.png").convert("RGB")).astype(np.int64)

    def test_diffusers_loads_a_merged_folder_and_gives_the_picture_of_the_attached_adapter(self):
        untuned = self.worker_picture()
        for pair in (("CA_out", "FFN_in"), ("CA_c", "CA_c")):
            with self.subTest(pair):
                write_adapter(self.path / "a.safetensors", self.unet, *pair, "identity")
                out = self.path / ("merged-" + pair[0])
                done = self.export("merged", out)
                self.assertEqual(done.returncode, 0, done.stderr)
                attached = self.worker_picture("--adapter", self.path / "a.safetensors")
                self.assertGreater(np.abs(attached - untuned).mean(), 5, "the adapter changes the picture")
                # One level where a value lies on the border between two, one more for the merge's own rounding.
                self.assertLessEqual(np.abs(diffusers_picture(out) - attached).max(), 2)

    def test_module_files_load_with_torch(self):
        arrays = write_adapter(self.path / "a.safetensors", self.unet, "CA_out", "FFN_in", "relu")
        done = self.export("modules", self.path / "modules")
        self.assertEqual(done.returncode, 0, done.stderr)
        files = sorted((self.path / "modules").iterdir())
        self.assertEqual(len(files), len(arrays) // 4)
        ours = "mid_block.attentions.0.transformer_blocks.0.adapter"
        path = self.path / "modules/middle_block.1.transformer_blocks.0.adapter_inout.pt"
        theirs = torch.load(path, weights_only=True)
        self.assertIsNone(zipfile.ZipFile(path).testzip(), "the entries' checksums")
        mapped = torch.load(path, weights_only=True, mmap=True)
        self.assertEqual(sorted(theirs), ["adp.0.bias", "adp.0.weight", "adp.2.bias", "adp.2.weight"])
        for name, key in (("down", "adp.0"), ("up", "adp.2")):
            for part in ("weight", "bias"):
                self.assertTrue(torch.equal(theirs[f"{key}.{part}"], arrays[f"{ours}.{name}.{part}"]))
                self.assertTrue(torch.equal(mapped[f"{key}.{part}"], arrays[f"{ours}.{name}.{part}"]))
                self.assertEqual(mapped[f"{key}.{part}"].data_ptr() % 64, 0, "aligned in the file")

    def test_what_is_not_linear_is_refused_and_leaves_nothing(self):
        write_adapter(self.path / "a.safetensors", self.unet, "CA_out", "FFN_in", "relu")
        done = self.export("merged", self.path / "out")
        self.assertEqual(done.returncode, 2)
        self.assertIn("relu cannot be folded", done.stderr)
        self.assertEqual([path.name for path in self.path.iterdir()], ["a.safetensors"])
        done = self.export("bundle", self.path / "out")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue((self.path / "out/adapter.safetensors").exists())
        StableDiffusionPipeline.from_pretrained(self.path / "out", safety_checker=None)
        self.assertEqual(self.export("bundle", self.path / "out").returncode, 2, "a folder is never written over")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)

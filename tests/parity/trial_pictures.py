"""What tests of files share: the picture of one prompt from the same noise by diffusers and by `loupe-worker`, and a trial's adapter
file from docs/formats.md alone. A script that imports it is started with REPOSITORY and LOUPE_WORKER."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["DIFFUSERS_VERBOSITY"] = "error"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from PIL import Image
from safetensors.torch import save_file

REPOSITORY, WORKER = pathlib.Path(sys.argv[1]), sys.argv[2]
BASE = REPOSITORY / "configs/bases/emoji-sd"
PROMPT, SEED, STEPS, GUIDANCE = "a photo of a red heart", 5, 2, 3.0


def pipeline(folder=BASE):
    loaded = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, safety_checker=None)
    loaded.set_progress_bar_config(disable=True)
    loaded.scheduler = DPMSolverMultistepScheduler.from_config(loaded.scheduler.config)
    return loaded


def picture(loaded, prompt=PROMPT, steps=STEPS):
    size = loaded.unet.config.sample_size
    noise = torch.randn(1, 4, size, size, generator=torch.Generator().manual_seed(SEED))
    image = loaded(prompt, latents=noise, num_inference_steps=steps, guidance_scale=GUIDANCE, output_type="np").images[0]
    return (image * 255).round().astype(np.int64)


def trial_file(path, arrays, settings, steps=1):
    settings = {"base": str(BASE), "scorer": "s", "task.images": "i", "task.instance_prompt": "a", "task.class_prompt": "b",
                "budget.steps": "1"} | settings
    save_file(arrays, path, {"loupe.format": "loupe-adapter-v1", "loupe.settings": json.dumps(settings), "loupe.cell": "{}",
                             "loupe.sweep_seed": "0", "loupe.replicate": "0", "loupe.steps": str(steps), "loupe.trial": "",
                             "loupe.base_sha256": "", "loupe.provenance": "{}", "format": "pt"})


class FilesTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name)

    def worker(self, *arguments):
        return subprocess.run([WORKER, *map(str, arguments)], capture_output=True, text=True)

    def done(self, *arguments, code=0):
        ended = self.worker(*arguments)
        self.assertEqual(ended.returncode, code, ended.stderr)
        return ended

    def sample(self, adapter=None, prompt=PROMPT, steps=STEPS):
        self.done("sample", "--base", BASE, "--prompt", prompt, "--seed", SEED, "--steps", steps, "--guidance", GUIDANCE,
                  "--out", self.path / "p.png", *(["--adapter", adapter] if adapter else []))
        return np.asarray(Image.open(self.path / "p.png").convert("RGB")).astype(np.int64)

    def export(self, adapter, layout, name):
        self.done("export", "--base", BASE, "--adapter", adapter, "--out", self.path / name, "--as", layout)
        return self.path / name

    def expect_same(self, found, expected, untuned):
        self.assertGreater(np.abs(expected - untuned).mean(), 2, "it changes the picture")
        # One level where a value lies on the border between two, one more for the sums' own order.
        self.assertLessEqual(np.abs(found - expected).max(), 2)

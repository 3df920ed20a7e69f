"""What `loupe-worker export` writes, read by the programs it is for.

    export_test.py REPOSITORY LOUPE_WORKER

An adapter file is written here from docs/formats.md alone. Merged into the base and loaded by diffusers, it must give the
pictures that `loupe-worker sample` gives with the adapter attached; one file per module must load with torch.load and hold the
same numbers under the original code's names.
"""

import sys
import unittest
import zipfile

import numpy as np
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel

from trial_pictures import BASE, FilesTest, picture, pipeline, trial_file

STEPS = 10
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
    trial_file(path, arrays, {"method.input": position_in, "method.output": position_out, "method.activation": activation,
                              "method.scale": str(SCALE), "method.width": str(WIDTH)})
    return arrays


class ExportTest(FilesTest):
    def setUp(self):
        super().setUp()
        self.unet = UNet2DConditionModel.from_pretrained(BASE / "unet")

    def export(self, layout, out):
        return self.worker("export", "--base", BASE, "--adapter", self.path / "a.safetensors", "--out", out, "--as", layout)

    def test_diffusers_loads_a_merged_folder_and_gives_the_picture_of_the_attached_adapter(self):
        untuned = self.sample(steps=STEPS)
        for pair in (("CA_out", "FFN_in"), ("CA_c", "CA_c")):
            with self.subTest(pair):
                write_adapter(self.path / "a.safetensors", self.unet, *pair, "identity")
                out = self.path / ("merged-" + pair[0])
                done = self.export("merged", out)
                self.assertEqual(done.returncode, 0, done.stderr)
                attached = self.sample(self.path / "a.safetensors", steps=STEPS)
                self.assertGreater(np.abs(attached - untuned).mean(), 5, "the adapter changes the picture")
                # One level where a value lies on the border between two, one more for the merge's own rounding.
                self.assertLessEqual(np.abs(picture(pipeline(out), steps=STEPS) - attached).max(), 2)

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

"""LoHas and LoKrs go between `loupe-worker` and LyCORIS through their files, and the pictures stay the same.

    lycoris_files_test.py REPOSITORY LOUPE_WORKER

One level of difference where a value lies on the border between two, as in export_test.py.
"""

import pathlib
import sys
import tempfile
import unittest

import torch
from lycoris.modules.loha import LohaModule
from lycoris.modules.lokr import LokrModule
from safetensors.torch import load_file, save_file

from trial_pictures import BASE, FilesTest, picture, pipeline, trial_file

# Ours, and LyCORIS's module with its options.
CASES = {
    "loha": ({"method.kind": "loha", "method.rank": "3", "method.alpha": "6", "method.targets": "all"},
             LohaModule, dict(lora_dim=3, alpha=6)),
    "lokr": ({"method.kind": "lokr", "method.rank": "2", "method.alpha": "3", "method.targets": "all"},
             LokrModule, dict(lora_dim=2, alpha=3)),
    "lokr whole": ({"method.kind": "lokr", "method.rank": "64", "method.alpha": "32", "method.targets": "all"},
                   LokrModule, dict(lora_dim=64, alpha=32)),
}


def layers_of(unet):
    return {name: layer for name, layer in unet.named_modules() if isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d))}


def key_of(name):
    return "lora_unet_" + name.replace(".", "_")


def add(layer, module):
    """As its forward does: get_diff_weight of this version multiplies by the scale once more."""
    with torch.no_grad():
        layer.weight += module.get_weight(layer.weight.shape).reshape(layer.weight.shape)


class LycorisFilesTest(FilesTest):
    @classmethod
    def setUpClass(cls):
        cls.untuned = picture(pipeline())

    def expect_same(self, found, expected):
        super().expect_same(found, expected, self.untuned)

    def test_files_go_both_ways(self):
        for name, (settings, kind, options) in CASES.items():
            with self.subTest(name), tempfile.TemporaryDirectory() as folder:
                self.path = pathlib.Path(folder)
                # What LyCORIS makes and writes.
                reference, theirs, ours = pipeline(), {}, {}
                generator = torch.Generator().manual_seed(3)
                for layer_name, layer in layers_of(reference.unet).items():
                    module = kind(key_of(layer_name), layer, 1.0, **options)
                    for parameter in module.parameters():
                        noise = torch.randn(parameter.shape, generator=generator)
                        parameter.data = 0.3 * noise * parameter[0].numel() ** -0.25
                    for key, value in module.state_dict().items():
                        theirs[f"{key_of(layer_name)}.{key}"] = value.detach().clone().contiguous()
                        if key != "alpha":
                            ours[f"unet.{layer_name}.{key}"] = value.detach().clone().contiguous()
                    add(layer, module)
                expected = picture(reference)
                save_file(theirs, self.path / "theirs.safetensors")
                self.expect_same(self.sample(self.path / "theirs.safetensors"), expected)
                self.expect_same(picture(pipeline(self.export(self.path / "theirs.safetensors", "merged", "m"))), expected)
                # A trial's file of the same values, written for LyCORIS.
                trial_file(self.path / "ours.safetensors", ours, settings)
                self.expect_same(self.sample(self.path / "ours.safetensors"), expected)
                written = load_file(self.export(self.path / "ours.safetensors", "kohya", "k") / "lora.safetensors")
                fresh = pipeline()
                for layer_name, layer in layers_of(fresh.unet).items():
                    # Its loader guesses a convolution's factors wrong, of its own files too; its modules are strict.
                    key = key_of(layer_name) + "."
                    module = kind(key_of(layer_name), layer, 1.0, **options)
                    module.load_state_dict({name.removeprefix(key): value for name, value in written.items()
                                            if name.startswith(key)})
                    add(layer, module)
                self.expect_same(picture(fresh), expected)
                again = load_file(self.export(self.path / "theirs.safetensors", "kohya", "a") / "lora.safetensors")
                self.assertEqual(set(again), set(theirs))
                for key, value in theirs.items():
                    self.assertTrue(torch.equal(again[key].reshape(value.shape), value.float()), key)

    def test_what_cannot_be_read_says_why(self):
        key = key_of("conv_out")
        whole = {f"{key}.hada_w1_a": torch.ones(4, 2), f"{key}.hada_w1_b": torch.ones(2, 576),
                 f"{key}.hada_w2_a": torch.ones(4, 2), f"{key}.hada_w2_b": torch.ones(2, 576)}
        for change, sentence in (
                ({f"{key}.hada_w2_b": None}, "expected hada_w1_a, hada_w1_b, hada_w2_a and hada_w2_b"),
                ({f"{key}.hada_t1": torch.ones(2, 2, 3, 3)}, "has the arrays hada_t1"),
                ({f"{key}.hada_w1_b": torch.ones(2, 9), f"{key}.hada_w2_b": torch.ones(2, 9)}, "made for another base"),
                ({f"{key}.hada_w1_b": torch.ones(3, 576)}, "do not fit each other"),
                ({f"{key}.hada_w1_a": torch.full((4, 2), float("nan"))}, "hada_w1_a"),
                ({"lora_unet_conv_in_too.hada_w1_a": torch.ones(1, 1)}, "the base has no layer of this name")):
            with self.subTest(sentence):
                save_file({name: value for name, value in (whole | change).items() if value is not None},
                          self.path / "bad.safetensors")
                done = self.worker("sample", "--base", BASE, "--prompt", "a", "--out", self.path / "p.png", "--adapter",
                                   self.path / "bad.safetensors")
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertIn(sentence, done.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)

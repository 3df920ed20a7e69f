"""LoRAs go between `loupe-worker`, diffusers and peft through their files, and the pictures stay the same.

    lora_files_test.py REPOSITORY LOUPE_WORKER

What `loupe-worker export` writes is loaded by StableDiffusionPipeline.load_lora_weights and peft.PeftModel; what peft and
diffusers write, and kohya's names, are given to `loupe-worker sample --adapter`. One level of difference where a value lies on
the border between two, as in export_test.py.
"""

import pathlib
import sys
import tempfile
import unittest

import peft
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file

from trial_pictures import BASE, FilesTest, picture, pipeline, trial_file

ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
TEXT_ATTENTION = ["q_proj", "k_proj", "v_proj", "out_proj"]
# Ours, and what peft is told.
CASES = {
    "attention": ({"method.rank": "4"}, dict(r=4, lora_alpha=4, target_modules=ATTENTION)),
    "all": ({"method.rank": "2", "method.alpha": "6", "method.targets": "all"},
            dict(r=2, lora_alpha=6, target_modules="matrices")),
    "rslora": ({"method.rank": "8", "method.alpha": "4", "method.rslora": "true"},
               dict(r=8, lora_alpha=4, use_rslora=True, target_modules=ATTENTION)),
    "dora": ({"method.rank": "2", "method.dora": "true", "method.targets": "all"},
             dict(r=2, lora_alpha=2, use_dora=True, target_modules="matrices")),
}


def inject(module, options, seed=3):
    """peft's layers with values that change the picture; their state as get_peft_model_state_dict gives it."""
    options = dict(options)
    if options["target_modules"] == "matrices":
        options["target_modules"] = [name for name, layer in module.named_modules()
                                     if isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d))]
    config = peft.LoraConfig(**options)
    peft.inject_adapter_in_model(config, module)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        if ".lora_" in name:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data = parameter.data * (1 + 0.2 * noise) if "magnitude" in name else (
                0.5 * noise * parameter[0].numel() ** -0.5)
    return config, {name: value.detach().clone().contiguous()
                    for name, value in peft.get_peft_model_state_dict(module).items()}


def our_file(path, settings, unet, text=None):
    arrays = {f"unet.{name}": value for name, value in unet.items()}
    arrays |= {f"text_encoder.text_model.{name}": value for name, value in (text or {}).items()}
    trial_file(path, arrays, {"method.kind": "lora"} | settings)


class LoraFilesTest(FilesTest):
    @classmethod
    def setUpClass(cls):
        cls.untuned = picture(pipeline())

    def export(self, adapter, layout):
        return super().export(adapter, layout, layout)

    def expect_same(self, found, expected):
        super().expect_same(found, expected, self.untuned)

    def test_what_we_export_loads_in_diffusers_and_peft(self):
        for name, (settings, options) in CASES.items():
            with self.subTest(name), tempfile.TemporaryDirectory() as folder:
                self.path = pathlib.Path(folder)
                reference = pipeline()
                _, arrays = inject(reference.unet, options)
                expected = picture(reference)
                ours = self.path / "adapter.safetensors"
                our_file(ours, settings, arrays)
                self.expect_same(self.sample(ours), expected)
                out = {layout: self.export(ours, layout) for layout in ("diffusers", "merged", "kohya", "peft")}
                # kohya's own scripts know no DoRA: its key is LyCORIS', of which diffusers makes another shape.
                for layout in ["diffusers"] + ([] if name == "dora" else ["kohya"]):
                    loaded = pipeline()
                    loaded.load_lora_weights(out[layout])
                    self.expect_same(picture(loaded), expected)
                self.expect_same(picture(pipeline(out["merged"])), expected)
                loaded = pipeline()
                loaded.unet = peft.PeftModel.from_pretrained(loaded.unet, out["peft"]).base_model.model
                self.expect_same(picture(loaded), expected)
                for layout in ("diffusers", "peft", "kohya"):
                    written = out[layout] if layout == "peft" else next(out[layout].iterdir())
                    self.expect_same(self.sample(written), expected)

    def test_what_diffusers_and_peft_write_loads_here(self):
        for name, (_, options) in CASES.items():
            with self.subTest(name), tempfile.TemporaryDirectory() as folder:
                self.path = pathlib.Path(folder)
                reference = pipeline()
                config, arrays = inject(reference.unet, options)
                expected = picture(reference)
                metadata = {key: list(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
                metadata["peft_type"] = "LORA"
                StableDiffusionPipeline.save_lora_weights(self.path / "d", arrays, unet_lora_adapter_metadata=metadata)
                self.expect_same(self.sample(self.path / "d/pytorch_lora_weights.safetensors"), expected)
                fresh = pipeline()
                wrapped = peft.get_peft_model(fresh.unet, config)
                peft.set_peft_model_state_dict(wrapped, {f"base_model.model.{k}": v for k, v in arrays.items()})
                wrapped.save_pretrained(self.path / "p")
                self.expect_same(self.sample(self.path / "p"), expected)

    def test_a_text_encoders_lora_goes_along(self):
        reference = pipeline()
        _, unet = inject(reference.unet, dict(r=4, lora_alpha=8, target_modules=ATTENTION))
        _, text = inject(reference.text_encoder, dict(r=4, lora_alpha=8, target_modules=TEXT_ATTENTION), seed=4)
        expected = picture(reference)
        ours = self.path / "adapter.safetensors"
        our_file(ours, {"method.rank": "4", "method.alpha": "8", "method.text_encoder": "true"}, unet,
                 {name.removeprefix("text_model."): value for name, value in text.items()})
        self.expect_same(self.sample(ours), expected)
        for layout in ("diffusers", "kohya"):
            loaded = pipeline()
            loaded.load_lora_weights(self.export(ours, layout))
            self.expect_same(picture(loaded), expected)
        self.expect_same(picture(pipeline(self.export(ours, "merged"))), expected)
        out = self.export(ours, "peft")
        loaded = pipeline()
        loaded.unet = peft.PeftModel.from_pretrained(loaded.unet, out).base_model.model
        loaded.text_encoder = peft.PeftModel.from_pretrained(loaded.text_encoder, out / "text_encoder").base_model.model
        self.expect_same(picture(loaded), expected)
        self.expect_same(self.sample(out), expected)

    def test_older_names_load_here(self):
        reference = pipeline()
        _, arrays = inject(reference.unet, CASES["attention"][1])
        expected = picture(reference)
        for down, up in ((".processor.{}_lora.down.weight", ".processor.{}_lora.up.weight"),
                         (".{}.lora.down.weight", ".{}.lora.up.weight")):
            renamed = {}
            for name, value in arrays.items():
                module, layer = name.split(".to_")
                layer, matrix = layer.split(".lora_")
                layer = "to_" + (layer if ".lora." in down else layer.removesuffix(".0"))
                renamed["unet." + module + (down if matrix.startswith("A") else up).format(layer)] = value
            save_file(renamed, self.path / "old.safetensors")
            self.expect_same(self.sample(self.path / "old.safetensors"), expected)

    def test_a_layout_of_another_method_is_refused(self):
        _, arrays = inject(pipeline().unet, CASES["attention"][1])
        our_file(self.path / "a.safetensors", CASES["attention"][0], arrays)
        done = self.worker("export", "--base", BASE, "--adapter", self.path / "a.safetensors", "--out", self.path / "out", "--as",
                           "modules")
        self.assertEqual(done.returncode, 2)
        self.assertIn("the method lora has no layout 'modules'; it can be exported as merged, bundle, diffusers, peft, kohya",
                      done.stderr)
        arrays = {name.replace("attn1", "attn7"): value for name, value in arrays.items()}
        save_file(arrays, self.path / "b.safetensors")
        done = self.worker("sample", "--base", BASE, "--prompt", "a", "--out", self.path / "p.png", "--adapter",
                           self.path / "b.safetensors")
        self.assertEqual(done.returncode, 2)
        self.assertIn("the LoRA was made for another base", done.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)

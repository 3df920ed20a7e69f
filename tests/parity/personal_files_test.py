"""Embeddings and hypernetworks go between `loupe-worker` and other programs through their files, and the pictures stay the same.

    personal_files_test.py REPOSITORY LOUPE_WORKER

Embeddings are loaded by StableDiffusionPipeline.load_textual_inversion. Hypernetworks have no library: what AUTOMATIC1111's web
UI does with one is written out here in numpy, and its published rules for reading a .pt file are applied to ours.
"""

import json
import re
import sys
import unittest
import zipfile

import numpy as np
import torch
from safetensors.torch import load_file, save_file

import trial_pictures
from trial_pictures import BASE, FilesTest, pipeline, trial_file

WORD = "<toy>"
PROMPT = f"a photo of {WORD} heart"
TEXT_WIDTH = 128
# What modules/safe.py of the web UI lets into an archive, and which classes its pickle may name.
ARCHIVE_NAMES = re.compile(r"^([^/]+)/((data/\d+)|version|(data\.pkl))$")
CLASSES = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch FloatStorage"}


def picture(loaded, prompt=PROMPT):
    return trial_pictures.picture(loaded, prompt)


def embedding_file(path, values):
    trial_file(path, {WORD: values}, {"method.kind": "textual-inversion", "method.vectors": str(len(values)),
                                      "task.instance_prompt": PROMPT, "task.class_prompt": "a photo of heart"}, steps=7)


# ---- a hypernetwork in numpy

def parts(structure, activation, layer_norm, dropout, activate_output):
    """The kinds of a network's parts in the order of its torch.nn.Sequential."""
    found = []
    for i in range(len(structure) - 1):
        found.append("linear")
        if activation != "linear" and (i < len(structure) - 2 or activate_output):
            found.append("activation")
        if layer_norm:
            found.append("norm")
        if dropout[i + 1] > 0:
            found.append("dropout")
    return found


def state(width, structure, kinds, generator):
    """Random values under the names of a state_dict."""
    found, layer, out = {}, 0, width
    for index, kind in enumerate(kinds):
        if kind == "linear":
            into, out = int(width * structure[layer]), int(width * structure[layer + 1])
            layer += 1
            found[f"linear.{index}.weight"] = torch.randn(out, into, generator=generator) * into**-0.5
            found[f"linear.{index}.bias"] = torch.randn(out, generator=generator) * 0.1
        if kind == "norm":
            found[f"linear.{index}.weight"] = 1 + 0.1 * torch.randn(out, generator=generator)
            found[f"linear.{index}.bias"] = torch.randn(out, generator=generator) * 0.1
    return found


FUNCTIONS = {"relu": lambda x: np.maximum(x, 0), "tanh": np.tanh, "swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
             "linear": lambda x: x}


def apply(x, kinds, values, activation):
    """x + f(x)."""
    h = x
    for index, kind in enumerate(kinds):
        if kind == "linear":
            h = h @ values[f"linear.{index}.weight"].numpy().T + values[f"linear.{index}.bias"].numpy()
        elif kind == "activation":
            h = FUNCTIONS[activation](h)
        elif kind == "norm":
            centred = h - h.mean(-1, keepdims=True)
            h = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
            h = h * values[f"linear.{index}.weight"].numpy() + values[f"linear.{index}.bias"].numpy()
    return x + h


class Before(torch.nn.Module):
    """A layer with something before it."""

    def __init__(self, layer, function):
        super().__init__()
        self.layer, self.function = layer, function

    def forward(self, x):
        return self.layer(torch.from_numpy(self.function(x.numpy()).astype(np.float32)))


def attach(unet, widths, kinds, activation):
    for name, module in list(unet.named_modules()):
        if not name.endswith(("attn1", "attn2")):
            continue
        for part, layer in enumerate(("to_k", "to_v")):
            linear = getattr(module, layer)
            if linear.in_features in widths:
                values = widths[linear.in_features][part]
                setattr(module, layer, Before(linear, lambda x, v=values: apply(x, kinds, v, activation)))


CASES = {
    "as their form proposes": dict(structure=[1, 2, 1], activation="linear"),
    "everything": dict(structure=[1, 1.5, 2, 1], activation="swish", layer_norm=True, dropout=[0, 0.3, 0.1, 0]),
    "activated output": dict(structure=[1, 2, 1], activation="tanh", activate_output=True),
}


class PersonalFilesTest(FilesTest):
    def sample(self, adapter, prompt=PROMPT):
        return super().sample(adapter, prompt)

    def convert(self, file, layout, *more):
        out = self.path / f"to-{layout}-{len(list(self.path.iterdir()))}"
        self.done("convert", file, "--as", layout, "--out", out, *more)
        return next(out.iterdir())

    def test_an_embedding_gives_diffusers_picture_in_every_form(self):
        untuned = picture(pipeline())
        for vectors in (1, 3):
            with self.subTest(vectors=vectors):
                values = torch.randn(vectors, TEXT_WIDTH, generator=torch.Generator().manual_seed(vectors)) * 0.5
                trial = self.path / f"adapter{vectors}.safetensors"
                embedding_file(trial, values)
                # diffusers reads the trial's file as it is.
                reference = pipeline()
                reference.load_textual_inversion(self.path, weight_name=trial.name)
                expected = picture(reference)
                ids = reference.tokenizer.convert_tokens_to_ids([WORD])
                table = reference.text_encoder.get_input_embeddings().weight
                self.assertTrue(torch.equal(table[ids[0]], values[0]))
                self.expect_same(self.sample(trial), expected, untuned)
                for layout in ("diffusers", "a1111", "kohya"):
                    file = self.convert(trial, layout)
                    if layout != "kohya":  # whose file does not say the word
                        self.expect_same(self.sample(file), expected, untuned)
                    back = self.convert(file, "diffusers", "--name", WORD)
                    self.assertTrue(torch.equal(load_file(back)[WORD], values))
                    loaded = pipeline()
                    loaded.load_textual_inversion(file.parent, weight_name=file.name, token=WORD)
                    self.expect_same(picture(loaded), expected, untuned)
                self.assertLess((self.path / f"adapter{vectors}.safetensors").stat().st_size, 4096)

    def test_the_web_ui_reads_our_embedding(self):
        values = torch.randn(2, TEXT_WIDTH)
        embedding_file(self.path / "a.safetensors", values)
        file = self.convert(self.path / "a.safetensors", "a1111")
        self.assertEqual(file.name, "toy.pt")
        self.check_archive(file)
        data = torch.load(file, weights_only=True)
        self.assertEqual(len(data["string_to_param"]), 1)
        self.assertTrue(torch.equal(next(iter(data["string_to_param"].values())), values))
        self.assertEqual((data["string_to_token"], data["name"], data["step"]), ({"*": 265}, WORD, 7))

    def test_what_the_web_ui_writes_loads_here(self):
        values = torch.randn(1, TEXT_WIDTH, generator=torch.Generator().manual_seed(1)) * 0.5
        reference = pipeline()
        reference.load_textual_inversion(values[0], token=WORD)
        for legacy in (False, True):
            torch.save({"string_to_token": {"*": 265}, "string_to_param": {"*": values.requires_grad_()}, "name": WORD,
                        "step": 2999, "sd_checkpoint": "81761151", "sd_checkpoint_name": "v1-5"}, self.path / "e.pt",
                       _use_new_zipfile_serialization=not legacy)
            self.expect_same(self.sample(self.path / "e.pt"), picture(reference), picture(pipeline()))
        # The first trainer's, with a module in it.
        torch.save({"string_to_token": {"*": 265}, "string_to_param": torch.nn.ParameterDict({"*": values})}, self.path / "toy.pt")
        found = json.loads(self.done("inspect", self.path / "toy.pt", "--format", "json").stdout)
        self.assertEqual((found["form"], found["parameters"], found["facts"]["word"]), ("a1111", TEXT_WIDTH, "toy"))

    def check_archive(self, file):
        import pickletools
        archive = zipfile.ZipFile(file)
        self.assertIsNone(archive.testzip())
        for name in archive.namelist():
            self.assertRegex(name, ARCHIVE_NAMES)
        named = {argument for code, argument, _ in pickletools.genops(archive.read("archive/data.pkl"))
                 if code.name == "GLOBAL"}
        self.assertLessEqual(named, CLASSES)

    def test_a_hypernetwork_computes_as_written_out(self):
        untuned = picture(pipeline(), "a red heart")
        for name, case in CASES.items():
            with self.subTest(name):
                structure, activation = case["structure"], case["activation"]
                dropout = case.get("dropout", [0] * len(structure))
                norm, activate = case.get("layer_norm", False), case.get("activate_output", False)
                kinds = parts(structure, activation, norm, dropout, activate)
                generator = torch.Generator().manual_seed(3)
                # The text's width and one of the picture's own.
                widths = {width: [state(width, structure, kinds, generator) for _ in range(2)] for width in (TEXT_WIDTH, 64)}
                reference = pipeline()
                attach(reference.unet, widths, kinds, activation)
                expected = picture(reference, "a red heart")
                saved = {width: tuple(networks) for width, networks in widths.items()} | {
                    "step": 9, "name": "h", "layer_structure": structure, "activation_func": activation,
                    "is_layer_norm": norm, "weight_initialization": "Normal", "use_dropout": any(dropout),
                    "dropout_structure": dropout, "activate_output": activate, "last_layer_dropout": False,
                    "sd_checkpoint": None, "sd_checkpoint_name": None, "optional_info": None}
                torch.save(saved, self.path / "h.pt")
                self.expect_same(self.sample(self.path / "h.pt", "a red heart"), expected, untuned)
                ours = self.convert(self.path / "h.pt", "a1111")
                self.check_archive(ours)
                data = torch.load(ours, weights_only=True)
                for key in ("step", "name", "layer_structure", "activation_func", "is_layer_norm", "weight_initialization",
                            "dropout_structure", "activate_output"):
                    self.assertEqual(data[key], saved[key], key)
                for width, networks in widths.items():
                    for found, wanted in zip(data[width], networks):
                        self.assertEqual(sorted(found), sorted(wanted))
                        self.assertTrue(all(torch.equal(found[key], wanted[key]) for key in wanted))
                self.expect_same(self.sample(ours, "a red heart"), expected, untuned)

    def test_inspect_says_what_a_file_is(self):
        values = torch.randn(2, TEXT_WIDTH)
        embedding_file(self.path / "a.safetensors", values)
        embedding = self.convert(self.path / "a.safetensors", "kohya")
        save_file({f"lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.{key}": value for key, value in
                   (("lora_down.weight", torch.randn(4, 768)), ("lora_up.weight", torch.zeros(320, 4)),
                    ("alpha", torch.tensor(2.0)))}, self.path / "lora.safetensors", {"ss_network_dim": "4"})
        found = {}
        for file in (self.path / "a.safetensors", embedding, self.path / "lora.safetensors"):
            found[file.name] = json.loads(self.done("inspect", file, "--base", BASE, "--format", "json").stdout)
        self.assertEqual(found["a.safetensors"]["facts"]["method"], "textual-inversion")
        self.assertEqual((found["toy.safetensors"]["kind"], found["toy.safetensors"]["parameters"]), ("embedding", 256))
        self.assertEqual(found["toy.safetensors"]["fits"], "yes")
        lora = found["lora.safetensors"]
        self.assertEqual((lora["kind"], lora["form"], lora["facts"]["rank"], lora["facts"]["alpha"]), ("LoRA", "kohya", "4", "2"))
        self.assertIn("Stable Diffusion v1", lora["base"])
        self.assertIn("made for another base", lora["fits"])
        self.assertEqual(lora["metadata"], {"ss_network_dim": "4"})
        self.assertTrue(any("change nothing" in sentence for sentence in lora["odd"]), lora["odd"])
        self.assertIn("kind ", self.done("inspect", embedding).stdout)

    def test_bad_files_are_refused_with_a_sentence(self):
        (self.path / "a.pt").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
        save_file({"x.lora_mid.weight": torch.ones(2, 2), "x.lora_zz": torch.ones(1)}, self.path / "b.safetensors")
        save_file({"emb_params": torch.full((1, 128), float("nan"))}, self.path / "c.safetensors")
        (self.path / "d.safetensors").write_bytes(b"\0" * 7)
        for name, sentence in (("a.pt", "refused"), ("b.safetensors", "a middle factor"), ("c.safetensors", "is broken"),
                               ("d.safetensors", "d.safetensors"), ("none.pt", "none.pt")):
            for command in (["inspect"], ["convert", "--as", "diffusers", "--out", self.path / "out", "--base", BASE]):
                done = self.done(command[0], self.path / name, *command[1:], code=2)
                self.assertIn(sentence, done.stderr)
        self.assertFalse((self.path / "out").exists())
        save_file({"lora_unet_x.lora_down.weight": torch.ones(1, 2)}, self.path / "e.safetensors")
        done = self.done("convert", self.path / "e.safetensors", "--as", "peft", "--out", self.path / "out", code=2)
        self.assertIn("give --base", done.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)

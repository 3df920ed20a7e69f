"""A sweep from a dict on the built-in base with a real worker: two trials of two steps."""

import pathlib
import subprocess
import tempfile
import unittest

import numpy as np
from safetensors.numpy import load_file

import loupe
from programs import BIN, ROOT, Service

SPEC = {
    "name": "really-trained", "base": "configs/bases/emoji-sd", "scorer": "configs/scorers/emoji-clip",
    "task": {"instance_prompt": "a photo of sks", "class_prompt": "a photo of cat face", "class_images": 0},
    "method": {"kind": "adapter", "width": 4},
    "factors": {"input": ["CA_in", "FFN_in"], "output": ["FFN_in"]},
    "budget": {"steps": 2, "batch": 1, "samples": 2}, "sample": {"steps": 2, "guidance": 1}, "seed": 3}


class RealSweepTest(unittest.TestCase):
    def test_dict_becomes_trained_adapters(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            subprocess.run([BIN / "loupe-worker", "render-emoji", "--family", "cat-faces", "--out", folder / "images"], check=True, cwd=ROOT,
                           stdout=subprocess.DEVNULL)
            service = Service(folder / "service", workers=1, real=True).start()
            self.addCleanup(service.stop)
            with loupe.Client(data=service.data) as client:
                spec = SPEC | {"task": SPEC["task"] | {"images": folder / "images"}}
                sweep = client.wait(client.submit(spec, relative_to=ROOT), progress=False, timeout=400)
                frame = client.trials(sweep)
                self.assertEqual(len(frame), 2)
                self.assertTrue(np.isfinite(frame[["clip_i", "clip_t"]].to_numpy()).all())
                self.assertEqual(len(client.metrics(sweep, 0, metric="loss")), 2)
                adapter = load_file(client.download(sweep, 0, "adapter.safetensors", folder))
                self.assertTrue(all(name.split(".adapter.")[1] in ("down.weight", "down.bias", "up.weight", "up.bias") for name in adapter))
                samples = client.download(sweep, 0, "samples.png", folder)
                self.assertEqual(samples.read_bytes()[:4], b"\x89PNG")


if __name__ == "__main__":
    unittest.main()

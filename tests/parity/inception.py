"""The Inception network of FID as pytorch-fid builds it, with random weights in each kind of file that it can come in, and
its features of pictures that pytorch-fid and clean-fid read and resize themselves.
"""

import collections
import importlib.util
import pathlib
import shutil
import sys

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file


def import_torchvision():
    """From .venv/fid (tests/requirements-fid.txt). Its compiled operators need a CUDA build of torch; Inception needs none
    of them, but the import looks for two, so these get names without a body where the library cannot be loaded."""
    sys.path.append(str(pathlib.Path(sys.prefix) / "fid"))
    folder = pathlib.Path(importlib.util.find_spec("torchvision").origin).parent
    try:
        torch.ops.load_library(str(next(folder.glob("_C*.so"))))
    except OSError:
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    import torchvision

    return torchvision


def pictures(rng):
    """Larger and smaller than 299, at it, wide and tall; noise makes bicubic overshoot beyond 0 and 255."""
    def noise(height, width):
        return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)

    def smooth(height, width):
        return np.asarray(Image.fromarray(noise(height // 16 + 2, width // 16 + 2)).resize((width, height), Image.BICUBIC))

    return dict(smooth=smooth(512, 512), noise=noise(64, 64), exact=noise(299, 299), wide=smooth(120, 640),
                tall=noise(333, 65), tiny=noise(9, 17))


def random_weights(torchvision, generator):
    """torchvision's Inception has the names and shapes of the published file. Normalisation statistics are those of smooth
    pictures and noise sent through, so that the signal keeps its size through all layers; every other weight is away from its initial value."""
    network = torchvision.models.inception_v3(num_classes=1008, aux_logits=False, weights=None, init_weights=False)
    for name, value in network.named_parameters():
        noise = torch.randn(value.shape, generator=generator)
        if value.dim() > 1:
            value.data = noise * (2 / value[0].numel()) ** 0.5
        else:
            value.data = 0.2 * noise + (1 if name.endswith("bn.weight") else 0)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    sent = [torch.nn.functional.interpolate(torch.rand(2, 3, side, side, generator=generator) * 2 - 1, size=(299, 299),
                                            mode="bilinear") for side in (20, 299)]
    network.train()(torch.cat(sent))
    return network.state_dict()


class ToDouble(torch.nn.Module):
    def forward(self, x):
        return x.double()


def write(repository, out):
    torchvision = import_torchvision()
    import pytorch_fid.fid_score
    import pytorch_fid.inception
    from cleanfid.resize import build_resizer

    folder = out / "inception"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with torch.no_grad():
        weights = random_weights(torchvision, torch.Generator().manual_seed(700))
    # The published file is from 2019, before torch.save wrote zip archives, and holds 566 tensors without their modules'
    # versions: written so, ours has its size but for the lengths of some keys.
    published = collections.OrderedDict(weights.items())
    assert len(published) == 566
    torch.save(published, folder / "sequence.pth", _use_new_zipfile_serialization=False)
    torch.save(weights, folder / "archive.pth")
    save_file(dict(weights), folder / "weights.safetensors")

    pytorch_fid.inception.load_state_dict_from_url = lambda *_, **__: torch.load(folder / "sequence.pth")
    network = pytorch_fid.inception.InceptionV3([pytorch_fid.inception.InceptionV3.BLOCK_INDEX_BY_DIM[2048]]).eval()
    # Pictures are read and resized in float32, as pytorch-fid does; the network runs in float64, so that its rounding does not
    # hide differences of another kind.
    network.double().blocks[0].insert(0, ToDouble())
    files, resized = [], []
    resize = build_resizer("clean")
    for name, picture in pictures(np.random.default_rng(701)).items():
        files.append(folder / f"{name}.png")
        Image.fromarray(picture).save(files[-1])
        resized.append(resize(picture).transpose(2, 0, 1))
    arrays = dict(pytorch_fid=torch.from_numpy(pytorch_fid.fid_score.get_activations(
        files, network, batch_size=1, dims=2048, device="cpu", num_workers=0)))
    # clean-fid's network is this one in TorchScript, with (x - 128) / 128 before it.
    arrays["clean_pixels"] = torch.from_numpy(np.stack(resized))
    network.resize_input = network.normalize_input = False
    with torch.no_grad():
        arrays["clean_fid"] = network((arrays["clean_pixels"] - 128) / 128)[0].flatten(1)
    save_file({name: value.contiguous() for name, value in arrays.items()}, folder / "expected.safetensors")

"""EfficientNet-Lite0 and -Lite2 with random weights as the package efficientnet_lite_pytorch builds them (.venv/fid,
tests/requirements-fid.txt), and their features and scores of random pixels and of pictures."""

import json
import pathlib
import shutil
import sys

import torch
from PIL import Image
from safetensors.torch import save_file
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

MEAN_AND_DEVIATION = dict(image_mean=[127 / 255] * 3, image_std=[128 / 255] * 3)
# Width, depth, pictures' side: Lite2 is wider, deeper, and of a side that is odd after some halvings.
SIZES = {"lite0": (1.0, 1.0, 224), "lite2": (1.1, 1.2, 260)}


def random_weights(model, generator):
    """Away from the initial values everywhere, and of a size that keeps the signal's through all layers: statistics are those of what
    the layer meets when noise is sent through."""
    def scale(module, inputs, output):
        module.running_mean.copy_(inputs[0].mean((0, 2, 3)))
        module.running_var.copy_(inputs[0].var((0, 2, 3)))
        return torch.nn.functional.batch_norm(inputs[0], module.running_mean, module.running_var, module.weight,
                                              module.bias, False, 0, module.eps)

    hooks = []
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.copy_(1 + 0.3 * torch.randn(module.weight.shape, generator=generator))
            module.bias.copy_(0.5 + 0.3 * torch.randn(module.bias.shape, generator=generator))
            hooks.append(module.register_forward_hook(scale))
        elif isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            fan_in = module.weight[0].numel()
            module.weight.copy_(torch.randn(module.weight.shape, generator=generator) / fan_in**0.5)
    model(torch.randn(4, 3, 96, 96, generator=generator))
    for hook in hooks:
        hook.remove()


@torch.no_grad()
def write(repository, out):
    apart = str(pathlib.Path(sys.prefix) / "fid")
    sys.path.append(apart)
    from efficientnet_lite_pytorch import EfficientNet

    sys.path.remove(apart)  # torchvision is there too, which transformers would take notice of

    names = json.loads((out / "vit.json").read_text())
    for index, (size, (width, depth, side)) in enumerate(SIZES.items()):
        generator = torch.Generator().manual_seed(950 + index)
        # Static padding is that of image_size; the random weights' pictures are smaller, so built for theirs first.
        model = EfficientNet.from_name(f"efficientnet-{size}", image_size=96).eval()
        random_weights(model, generator)
        state = model.state_dict()
        model = EfficientNet.from_name(f"efficientnet-{size}").eval()
        model.load_state_dict(state)
        folder = out / f"efficientnet_{size}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        torch.save(state, folder / "pytorch_model.bin")
        (folder / "config.json").write_text(json.dumps(dict(
            model_type="efficientnet-lite", width_coefficient=width, depth_coefficient=depth, image_size=side,
            num_classes=1000)))
        (folder / "preprocessor_config.json").write_text(json.dumps(dict(
            do_resize=True, do_normalize=True, resample=3, size=side, **MEAN_AND_DEVIATION)))
        processor = ViTImageProcessorPil(size=dict(height=side, width=side), resample=3, **MEAN_AND_DEVIATION)
        pictures = [Image.open(out / "pictures" / name).convert("RGB") for name in names[:3]]
        pixels = torch.cat([processor(picture, return_tensors="pt").pixel_values for picture in pictures])
        features = model.extract_features(pixels).mean((2, 3))
        save_file(dict(pixels=pixels, features=features.contiguous(), logits=model(pixels).contiguous()),
                  out / f"efficientnet_{size}.safetensors")

"""Small ViTModels with random weights in folders as they are published, and what transformers makes of pictures with them."""

import json
import shutil

import torch
from networks import randomise
from PIL import Image
from safetensors.torch import save_file
from transformers import ViTConfig, ViTModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

IMAGENET = dict(image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])
FOLDERS = {
    # As DINO's ViT-S/16: files of 2021, pictures stretched by bilinear interpolation.
    "vit_dino_like": dict(
        config=dict(hidden_size=24, num_hidden_layers=3, num_attention_heads=3, intermediate_size=96, image_size=48,
                    patch_size=16),
        preprocessor=dict(do_normalize=True, do_resize=True, feature_extractor_type="ViTFeatureExtractor", resample=2, size=48,
                          **IMAGENET),
        processor=ViTImageProcessorPil(size=dict(height=48, width=48), resample=2, **IMAGENET), weights="model.safetensors"),
    # Without biases, with a pooling layer, patches that do not divide the picture, weights by torch.save; pictures cut as the
    # authors of DINO and DreamBooth do.
    "vit_other": dict(
        config=dict(hidden_size=20, num_hidden_layers=2, num_attention_heads=2, intermediate_size=30, image_size=50,
                    patch_size=8, qkv_bias=False, layer_norm_eps=1e-6),
        preprocessor=dict(do_normalize=True, do_resize=True, do_rescale=True, rescale_factor=1 / 255, do_center_crop=True,
                          crop_size=dict(height=50, width=50), size=dict(shortest_edge=57), resample=3, **IMAGENET),
        processor=CLIPImageProcessorPil(size=dict(shortest_edge=57), crop_size=dict(height=50, width=50), resample=3,
                                        do_convert_rgb=False, **IMAGENET),
        weights="pytorch_model.bin", pooling=True),
}


def write_folder(folder, spec, generator):
    shutil.rmtree(folder, ignore_errors=True)
    model = randomise(ViTModel(ViTConfig(**spec["config"]), add_pooling_layer=spec.get("pooling", False)), generator)
    model.save_pretrained(folder)
    if spec["weights"] == "pytorch_model.bin":
        from safetensors.torch import load_file

        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    (folder / "preprocessor_config.json").write_text(json.dumps(spec["preprocessor"]))
    return model


def write(repository, out):
    names = [name for name in json.loads((out / "pictures.json").read_text()) if name.endswith(".png")]
    for index, (name, spec) in enumerate(FOLDERS.items()):
        model = write_folder(out / name, spec, torch.Generator().manual_seed(900 + index))
        pictures = [Image.open(out / "pictures" / picture).convert("RGB") for picture in names]
        pixels = torch.cat([spec["processor"](picture, return_tensors="pt").pixel_values for picture in pictures])
        save_file(dict(pixels=pixels, features=model(pixels).last_hidden_state[:, 0].contiguous()),
                  out / f"{name}.safetensors")
    (out / "vit.json").write_text(json.dumps(names))

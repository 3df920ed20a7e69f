"""Pictures from the built-in base by diffusers' own StableDiffusionPipeline, from given latents and captions."""

import json
import shutil

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, StableDiffusionPipeline
from safetensors.torch import save_file
from transformers import CLIPModel, CLIPProcessor

CAPTIONS = ["a photo of a red heart", "grinning face"]
CASES = [dict(sampler="dpm-solver++", steps=25, guidance=7.0), dict(sampler="ddim", steps=20, guidance=3.0),
         dict(sampler="dpm-solver++", steps=10, guidance=1.0)]


def write(repository, out):
    shutil.rmtree(out / "resaved", ignore_errors=True)
    pipeline = StableDiffusionPipeline.from_pretrained(repository / "configs/bases/emoji-sd", torch_dtype=torch.float32,
                                                       safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    # As the current libraries write them: tokenizer.json alone, processor_config.json, every key of every config; the base besides
    # in parts with an index, and the scorer as torch.save's file.
    pipeline.save_pretrained(out / "resaved/base")
    pipeline.unet.save_pretrained(out / "resaved/base/unet", max_shard_size="2MB")
    (out / "resaved/base/unet/diffusion_pytorch_model.safetensors").unlink()
    scorer = CLIPModel.from_pretrained(repository / "configs/scorers/emoji-clip", torch_dtype=torch.float32)
    scorer.save_pretrained(out / "resaved/scorer")
    (out / "resaved/scorer/model.safetensors").unlink()
    torch.save(scorer.state_dict(), out / "resaved/scorer/pytorch_model.bin")
    CLIPProcessor.from_pretrained(repository / "configs/scorers/emoji-clip").save_pretrained(out / "resaved/scorer")
    settings = dict(pipeline.scheduler.config)
    size = pipeline.unet.config.sample_size
    arrays = dict(noise=torch.randn(len(CAPTIONS), 4, size, size, generator=torch.Generator("cpu").manual_seed(600)))
    for index, case in enumerate(CASES):
        if case["sampler"] == "ddim":
            # DDIMScheduler's default would clip x0 to [-1, 1], which latents are not made for.
            pipeline.scheduler = DDIMScheduler.from_config(settings, clip_sample=False)
        else:
            pipeline.scheduler = DPMSolverMultistepScheduler.from_config(settings)
        options = dict(prompt=CAPTIONS, latents=arrays["noise"].clone(), num_inference_steps=case["steps"],
                       guidance_scale=case["guidance"])
        arrays[f"{index}.latents"] = pipeline(**options, output_type="latent").images
        pictures = pipeline(**options, output_type="np").images
        arrays[f"{index}.pictures"] = torch.from_numpy((pictures * 255).round().astype("uint8"))
    save_file({name: value.contiguous() for name, value in arrays.items()}, out / "pipeline.safetensors")
    (out / "pipeline.json").write_text(json.dumps(dict(captions=CAPTIONS, cases=CASES)))

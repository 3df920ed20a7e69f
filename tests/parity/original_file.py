"""networks.py's Stable-Diffusion-v1-like base as one file by the original code's names, which diffusers' own conversion must bring
back to what it was."""

import re
import shutil

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from safetensors.torch import load_file, save_file

RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
          "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}


def unet_name(name, layers, types):
    for new, old in (("conv_in.", "input_blocks.0.0."), ("time_embedding.linear_1.", "time_embed.0."),
                     ("time_embedding.linear_2.", "time_embed.2."), ("conv_norm_out.", "out.0."), ("conv_out.", "out.2.")):
        if name.startswith(new):
            return old + name.removeprefix(new)
    inner = lambda rest: RESNET[rest.split(".")[0]] + "." + rest.split(".", 1)[1]
    if match := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", name):
        kind, i, rest = match.groups()
        return f"middle_block.1.{rest}" if kind == "attentions" else f"middle_block.{2 * int(i)}.{inner(rest)}"
    way, i, kind, j, rest = re.match(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.*)", name).groups()
    i, j = int(i), int(j)
    if kind == "downsamplers":
        return f"input_blocks.{(i + 1) * (layers + 1)}.0.op.{rest.removeprefix('conv.')}"
    if kind == "upsamplers":
        return f"output_blocks.{i * (layers + 1) + layers}.{2 if 'CrossAttn' in types[i] else 1}.{rest}"
    number = 1 + i * (layers + 1) + j if way == "down" else i * (layers + 1) + j
    blocks = "input_blocks" if way == "down" else "output_blocks"
    return f"{blocks}.{number}.0.{inner(rest)}" if kind == "resnets" else f"{blocks}.{number}.1.{rest}"


def vae_name(name, levels):
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    name = name.replace("mid_block.attentions.0", "mid.attn_1").replace("group_norm", "norm")
    for new, old in (("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
        name = name.replace(f"attn_1.{new}", f"attn_1.{old}")
    name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets", lambda m: f"up.{levels - 1 - int(m[1])}.block", name)
    return re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{levels - 1 - int(m[1])}.upsample", name)


def same(found, wanted):
    assert found.keys() == wanted.keys(), found.keys() ^ wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def write(repository, out):
    source, folder = out / "sd_v1_like", out / "sd_v1_single"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    unet, vae = UNet2DConditionModel.from_pretrained(source / "unet"), AutoencoderKL.from_pretrained(source / "vae")
    file = {}
    for name, value in unet.state_dict().items():
        file["model.diffusion_model." + unet_name(name, 2, unet.config.up_block_types)] = value
    for name, value in vae.state_dict().items():
        pointwise = "attentions" in name and name.endswith("weight") and value.dim() == 2
        file["first_stage_model." + vae_name(name, 4)] = value[:, :, None, None] if pointwise else value
    for name, value in load_file(source / "text_encoder/model.safetensors").items():
        file["cond_stage_model.transformer." + name] = value
    # What such files hold besides.
    file |= {"betas": torch.zeros(1000), "model_ema.num_updates": torch.tensor(1), "model_ema.decay": torch.tensor(0.5)}
    same(convert_ldm_unet_checkpoint(dict(file), dict(unet.config)), unet.state_dict())
    same(convert_ldm_vae_checkpoint(dict(file), dict(vae.config)), vae.state_dict())
    for part in ("unet", "vae", "text_encoder"):
        for weights in (folder / part).glob("*.safetensors"):
            weights.unlink()
    save_file({name: value.contiguous() for name, value in file.items()}, folder / "v1-like-pruned.safetensors")

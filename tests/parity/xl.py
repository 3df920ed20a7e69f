"""A small base of Stable Diffusion XL's structure with random weights: its networks, its pipeline's pictures, and the same weights
as one file by the original code's names. And networks.py's v2-like base as such a file, with OpenCLIP's names, by torch.save."""

import re
import shutil

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint, convert_open_clip_checkpoint
from networks import CAPTIONS, randomise, text_config
from original_file import same, unet_name, vae_name
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

TEXTS = (dict(hidden_size=24, intermediate_size=48, num_attention_heads=2, num_hidden_layers=3, hidden_act="quick_gelu"),
         dict(hidden_size=40, intermediate_size=80, num_attention_heads=4, num_hidden_layers=2, hidden_act="gelu"))
# Wider than the context, so that it takes two of the condition's rows.
POOLED = 100


def build(repository, folder, generator):
    shipped = repository / "configs/bases/emoji-sd"
    unet = UNet2DConditionModel(
        block_out_channels=(32, 48, 64), layers_per_block=2, attention_head_dim=(2, 3, 4), cross_attention_dim=64, sample_size=12,
        norm_num_groups=8, use_linear_projection=True, transformer_layers_per_block=(1, 2, 3),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), addition_embed_type="text_time",
        addition_time_embed_dim=8, projection_class_embeddings_input_dim=POOLED + 6 * 8)
    vae = AutoencoderKL(down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
                        block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8, sample_size=24, scaling_factor=0.13025,
                        force_upcast=True)
    first = CLIPTextModel(text_config(TEXTS[0]))
    config = text_config(TEXTS[1])
    config.projection_dim = POOLED
    second = CLIPTextModelWithProjection(config)
    for module in (unet, vae, first, second):
        randomise(module, generator)
    tokenizer = CLIPTokenizer.from_pretrained(shipped / "tokenizer")
    # As published: the second fills up with "!".
    other = CLIPTokenizer.from_pretrained(shipped / "tokenizer", pad_token="!")
    scheduler = DPMSolverMultistepScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
    pipeline = StableDiffusionXLPipeline(vae, first, second, tokenizer, other, unet, scheduler,
                                         force_zeros_for_empty_prompt=True, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    shutil.rmtree(folder, ignore_errors=True)
    pipeline.save_pretrained(folder)
    return pipeline


def expected(pipeline, generator):
    unet = pipeline.unet
    latents, noise = (torch.randn(3, 4, 12, 12, generator=generator) for _ in range(2))
    timesteps = torch.tensor([0, 400, 999])
    context = torch.randn(3, 11, 64, generator=generator)
    pooled = torch.randn(3, POOLED, generator=generator)
    sizes = torch.tensor([[24.0, 24, 0, 0, 24, 24], [96, 48, 3, 5, 24, 24], [30, 40, 0, 9, 24, 48]])
    leaves = [x.clone().requires_grad_() for x in (latents, context, pooled)]
    output = unet(leaves[0], timesteps, leaves[1], added_cond_kwargs=dict(text_embeds=leaves[2], time_ids=sizes)).sample
    loss = torch.nn.functional.mse_loss(output, noise)
    loss.backward()
    arrays = dict(latents=latents, noise=noise, timesteps=timesteps, context=context, pooled=pooled, sizes=sizes, output=output,
                  loss=loss, latents_gradient=leaves[0].grad, context_gradient=leaves[1].grad, pooled_gradient=leaves[2].grad)
    written = [caption for caption in CAPTIONS if caption]
    hidden, _, vector, _ = pipeline.encode_prompt(written, num_images_per_prompt=1, do_classifier_free_guidance=False)
    arrays |= dict(text_hidden=hidden, text_pooled=vector)
    start = torch.randn(2, 4, 12, 12, generator=generator)
    options = dict(prompt=written[:2], latents=start.clone(), num_inference_steps=6, guidance_scale=5.0)
    arrays |= dict(start=start, sampled=pipeline(**options, output_type="latent").images,
                   pictures=torch.from_numpy((pipeline(**options, output_type="np").images * 255).round().astype("uint8")))
    return {name: value.detach().clone().contiguous() for name, value in arrays.items()}


def open_clip(tower, prefix, projection):
    """A CLIPTextModel's weights by OpenCLIP's names. It always has a projection, [in, out]."""
    file, layers = {prefix + "text_projection": projection, prefix + "logit_scale": torch.tensor(1.0)}, {}
    for name, value in tower.items():
        name = name.removeprefix("text_model.")
        if match := re.match(r"encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(\w+)", name):
            layers.setdefault((match[1], match[3]), {})[match[2]] = value
            continue
        for new, old in (("embeddings.token_embedding", "token_embedding"),
                         ("embeddings.position_embedding.weight", "positional_embedding"),
                         ("encoder.layers", "transformer.resblocks"), ("self_attn.out_proj", "attn.out_proj"),
                         ("layer_norm1", "ln_1"), ("layer_norm2", "ln_2"), ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj"),
                         ("final_layer_norm", "ln_final")):
            name = name.replace(new, old)
        file[prefix + name] = value
    for (layer, kind), parts in layers.items():
        file[f"{prefix}transformer.resblocks.{layer}.attn.in_proj_{kind}"] = torch.cat([parts[which] for which in "qkv"])
    return file


def networks_by_original_names(unet, vae):
    file = {}
    names = (("add_embedding.linear_1.", "label_emb.0.0."), ("add_embedding.linear_2.", "label_emb.0.2."))
    for name, value in unet.state_dict().items():
        old = next((old + name.removeprefix(new) for new, old in names if name.startswith(new)), None)
        file["model.diffusion_model." + (old or unet_name(name, unet.config.layers_per_block, unet.config.up_block_types))] = value
    for name, value in vae.state_dict().items():
        pointwise = "attentions" in name and name.endswith("weight") and value.dim() == 2
        file["first_stage_model." + vae_name(name, len(vae.config.block_out_channels))] = (
            value[:, :, None, None] if pointwise else value)
    # diffusers' own conversion brings them back to what they were.
    same(convert_ldm_unet_checkpoint(dict(file), dict(unet.config)), unet.state_dict())
    same(convert_ldm_vae_checkpoint(dict(file), dict(vae.config)), vae.state_dict())
    return file


def without_weights(source, folder):
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    for weights in folder.rglob("*.safetensors"):
        weights.unlink()


def bare(tensors):
    return {name.removeprefix("text_model."): value for name, value in tensors.items()}


def write_single_xl(pipeline, source, folder):
    without_weights(source, folder)
    file = networks_by_original_names(pipeline.unet, pipeline.vae)
    for name, value in bare(pipeline.text_encoder.state_dict()).items():
        file["conditioner.embedders.0.transformer.text_model." + name] = value
    second = pipeline.text_encoder_2.state_dict()
    projection = second.pop("text_projection.weight").t().contiguous()
    prefix = "conditioner.embedders.1.model."
    file |= open_clip(second, prefix, projection)
    same(bare(convert_open_clip_checkpoint(pipeline.text_encoder_2, dict(file), prefix=prefix)),
         bare(pipeline.text_encoder_2.state_dict()))
    save_file({name: value.contiguous() for name, value in file.items()}, folder / "xl-like.safetensors")


def write_single_v2(source, folder):
    without_weights(source, folder)
    unet, vae = UNet2DConditionModel.from_pretrained(source / "unet"), AutoencoderKL.from_pretrained(source / "vae")
    file = networks_by_original_names(unet, vae)
    text = bare(load_file(source / "text_encoder/model.safetensors"))
    file |= open_clip(text, "cond_stage_model.model.", torch.zeros(40, 40))
    # One layer more than diffusers' folder has, as in the published file.
    last = {name: value for name, value in file.items() if ".resblocks.2." in name}
    file |= {name.replace(".resblocks.2.", ".resblocks.3."): value for name, value in last.items()}
    torch.save(dict(state_dict={name: value.contiguous() for name, value in file.items()}, global_step=3, epoch=1,
                    loops=None), folder / "v2-like.ckpt")


def write(repository, out):
    generator = torch.Generator().manual_seed(900)
    pipeline = build(repository, out / "xl_like", generator)
    save_file(expected(pipeline, generator), out / "xl_like.safetensors")
    write_single_xl(pipeline, out / "xl_like", out / "xl_single")
    write_single_v2(out / "linear_and_lists", out / "sd_v2_single")

"""Bases of several shapes with random weights, and what their parts compute."""

import json
import shutil

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

# What each one is for is in its comment; sizes are small so that all of it takes seconds.
BASES = {
    # Stable Diffusion v1's structure: four levels, two blocks each, 1x1 convolutions around the transformers; text weights
    # under text_model. with position_ids, VAE attention by its old names, as in the published files.
    "sd_v1_like": dict(
        unet=dict(
            block_out_channels=(32, 64, 64, 64), layers_per_block=2, attention_head_dim=8, cross_attention_dim=48,
            sample_size=16, norm_num_groups=32,
            down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        ),
        vae=dict(block_out_channels=(32, 32, 64, 64), layers_per_block=2, norm_num_groups=32, sample_size=64,
                 scaling_factor=0.18215),
        text=dict(hidden_size=48, intermediate_size=96, num_attention_heads=4, num_hidden_layers=2,
                  hidden_act="quick_gelu"),
        prediction_type="epsilon", latents=(16, 16), published_names=True,
    ),
    # The built-in base's shape (its own config.json files).
    "emoji_shape": dict(unet="emoji-sd", vae="emoji-sd", text="emoji-sd", prediction_type="epsilon", latents=(16, 16)),
    # Stable Diffusion v2's variations: linear projections, heads per level, v-prediction, gelu; and an odd time embedding,
    # attention at the lowest level, several transformer layers, and a size that does not halve evenly.
    "linear_and_lists": dict(
        unet=dict(
            block_out_channels=(32, 48, 64), layers_per_block=1, attention_head_dim=(2, 3, 8), cross_attention_dim=40,
            sample_size=12, norm_num_groups=8, norm_eps=1e-6, use_linear_projection=True,
            transformer_layers_per_block=(1, 2, 1), flip_sin_to_cos=False, freq_shift=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        ),
        vae=dict(block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8, sample_size=24,
                 mid_block_add_attention=False, scaling_factor=0.5),
        text=dict(hidden_size=40, intermediate_size=80, num_attention_heads=2, num_hidden_layers=3, hidden_act="gelu"),
        prediction_type="v_prediction", latents=(10, 6),
    ),
}

CAPTIONS = ["a photo of a cat face", "red heart", "", "A VERY long caption " * 12, "sks <|endoftext|> after the end"]

OLD_VAE_NAMES = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}


def randomise(module, generator):
    """Every weight away from its initial value, so that no layer can be left out unseen."""
    with torch.no_grad():
        for name, parameter in sorted(module.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1:
                parameter.copy_(noise * (parameter[0].numel() ** -0.5))
            elif "norm" in name and name.endswith("weight"):
                parameter.copy_(1 + 0.2 * noise)
            else:
                parameter.copy_(0.2 * noise)
    return module.eval().requires_grad_(False)


def rename(path, change):
    save_file({change(name): tensor for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"})


def text_config(options):
    return CLIPTextConfig(vocab_size=2015, max_position_embeddings=32, bos_token_id=2013, eos_token_id=2014,
                          pad_token_id=2014, projection_dim=32, **options)


def build(name, repository, out, generator):
    spec, folder = BASES[name], out / name
    shipped = repository / "configs/bases/emoji-sd"
    shutil.rmtree(folder, ignore_errors=True)
    if spec["unet"] == "emoji-sd":
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(shipped / "unet"))
        vae = AutoencoderKL.from_config(AutoencoderKL.load_config(shipped / "vae"))
        config = CLIPTextConfig.from_pretrained(shipped / "text_encoder")
        text = CLIPTextModel(config).float()
    else:
        unet = UNet2DConditionModel(**spec["unet"])
        levels = len(spec["vae"]["block_out_channels"])
        vae = AutoencoderKL(down_block_types=("DownEncoderBlock2D",) * levels,
                            up_block_types=("UpDecoderBlock2D",) * levels, **spec["vae"])
        text = CLIPTextModel(text_config(spec["text"]))
    for module in (unet, vae, text):
        randomise(module, generator)
    unet.save_pretrained(folder / "unet")
    vae.save_pretrained(folder / "vae")
    text.save_pretrained(folder / "text_encoder")
    DPMSolverMultistepScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1,
                                prediction_type=spec["prediction_type"]).save_pretrained(folder / "scheduler")
    shutil.copytree(shipped / "tokenizer", folder / "tokenizer")
    if spec.get("published_names"):
        path = folder / "text_encoder/model.safetensors"
        tensors = {"text_model." + key.removeprefix("text_model."): value for key, value in load_file(path).items()}
        tensors["text_model.embeddings.position_ids"] = torch.arange(32).unsqueeze(0)
        save_file(tensors, path, metadata={"format": "pt"})

        def old(key):
            for new, before in OLD_VAE_NAMES.items():
                key = key.replace(new, before)
            return key

        rename(folder / "vae/diffusion_pytorch_model.safetensors", old)
    return unet, vae, text


def expected(name, unet, vae, text, generator):

    spec = BASES[name]
    h, w = spec["latents"]
    arrays = {}
    latents = torch.randn(4, 4, h, w, generator=generator)
    noise = torch.randn(4, 4, h, w, generator=generator)
    timesteps = torch.tensor([0, 17, 500, 999])
    context = torch.randn(4, 11, unet.config.cross_attention_dim, generator=generator)
    leaf_latents, leaf_context = latents.clone().requires_grad_(), context.clone().requires_grad_()
    output = unet(leaf_latents, timesteps, leaf_context).sample
    loss = torch.nn.functional.mse_loss(output, noise)
    loss.backward()
    arrays |= dict(latents=latents, noise=noise, timesteps=timesteps, context=context, output=output.detach(),
                   loss=loss.detach(), latents_gradient=leaf_latents.grad, context_gradient=leaf_context.grad)

    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    pictures = torch.rand(2, 3, h * factor, w * factor, generator=generator) * 2 - 1
    distribution = vae.encode(pictures).latent_dist
    arrays |= dict(pictures=pictures, vae_mean=distribution.mean, vae_logvar=distribution.logvar,
                   vae_decoded=vae.decode(latents[:2]).sample)
    return {key: value.detach().contiguous() for key, value in arrays.items()}


def text_expected(folder, text):

    ids = CLIPTokenizer.from_pretrained(folder / "tokenizer")(
        CAPTIONS, padding="max_length", max_length=32, truncation=True, return_tensors="pt").input_ids
    return dict(ids=ids, text_hidden=text(ids).last_hidden_state.contiguous())


def write_clip(repository, out, generator):
    """A CLIPModel of the built-in scorer's shape: both towers, pooling, projections."""
    folder = out / "clip"
    shutil.rmtree(folder, ignore_errors=True)
    shipped = repository / "configs/scorers/emoji-clip"
    config = CLIPConfig.from_pretrained(shipped)
    clip = randomise(CLIPModel(config).float(), generator)
    clip.save_pretrained(folder)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "preprocessor_config.json"):
        shutil.copy(shipped / name, folder / name)
    pixels = torch.randn(3, 3, 64, 64, generator=generator)

    ids = CLIPTokenizer.from_pretrained(folder)(CAPTIONS, padding="max_length", max_length=32, truncation=True,
                                                return_tensors="pt").input_ids

    def features(output):
        return output if isinstance(output, torch.Tensor) else output.pooler_output

    save_file(dict(pixels=pixels, ids=ids, image_features=features(clip.get_image_features(pixels)).contiguous(),
                   text_features=features(clip.get_text_features(ids)).contiguous()), out / "clip.safetensors")


def write(repository, out):
    for index, name in enumerate(BASES):
        generator = torch.Generator().manual_seed(100 + index)
        unet, vae, text = build(name, repository, out, generator)
        arrays = expected(name, unet, vae, text, generator) | text_expected(out / name, text)
        save_file(arrays, out / f"{name}.safetensors")
    write_clip(repository, out, torch.Generator().manual_seed(200))
    (out / "captions.json").write_text(json.dumps(CAPTIONS))

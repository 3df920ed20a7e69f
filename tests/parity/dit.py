"""DiTs with random weights as diffusers computes them, in its layout and in that of the published .pt files, and DiTPipeline's
latents."""

import json
import shutil

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline, DiTTransformer2DModel
from safetensors.torch import save_file

import networks

CLASSES = 7
# `shared`: every block's embedding of time and class is a copy of the first's, as in everything converted from the published
# files. `square`: diffusers itself takes no other latents; larger ones have the trained coordinates stretched over them.
MODELS = {
    "dit_shared": dict(shared=True, config=dict(
        num_attention_heads=3, attention_head_dim=16, num_layers=3, sample_size=8, patch_size=2, out_channels=8,
        num_embeds_ada_norm=CLASSES), size=8),
    "dit_separate": dict(shared=False, config=dict(
        num_attention_heads=2, attention_head_dim=20, num_layers=2, sample_size=6, patch_size=1, out_channels=4,
        num_embeds_ada_norm=CLASSES, norm_eps=1e-6), size=12),
}
NAMES = {"0": "tench, Tinca tinca", "1": "goldfish", "2": "great white shark, white shark", "6": "hen"}


def share(model):
    first = model.transformer_blocks[0].norm1.emb
    for block in model.transformer_blocks[1:]:
        block.norm1.emb.load_state_dict(first.state_dict())


def published(model):
    """The same weights by the names of the published files. Their sinusoids and one epsilon are others: see expected()."""
    state, out = model.state_dict(), {}
    embedding = "transformer_blocks.0.norm1.emb."
    renamed = {"pos_embed.proj.": "x_embedder.proj.", embedding + "timestep_embedder.linear_1.": "t_embedder.mlp.0.",
               embedding + "timestep_embedder.linear_2.": "t_embedder.mlp.2.",
               embedding + "class_embedder.embedding_table.": "y_embedder.embedding_table.",
               "proj_out_1.": "final_layer.adaLN_modulation.1.", "proj_out_2.": "final_layer.linear."}
    for old, new in renamed.items():
        out |= {new + name.removeprefix(old): value for name, value in state.items() if name.startswith(old)}
    for i in range(len(model.transformer_blocks)):
        block, here = f"transformer_blocks.{i}.", f"blocks.{i}."
        for kind in ("weight", "bias"):
            out[f"{here}attn.qkv.{kind}"] = torch.cat([state[f"{block}attn1.to_{x}.{kind}"] for x in "qkv"])
            for old, new in (("attn1.to_out.0", "attn.proj"), ("ff.net.0.proj", "mlp.fc1"), ("ff.net.2", "mlp.fc2"),
                             ("norm1.linear", "adaLN_modulation.1")):
                out[f"{here}{new}.{kind}"] = state[f"{block}{old}.{kind}"]
    out["pos_embed"] = model.pos_embed.pos_embed
    return out


def expected(model, size, generator):
    n, config = 4, model.config
    latents = torch.randn(n, 4, size, size, generator=generator)
    target = torch.randn(n, config.out_channels, size, size, generator=generator)
    timesteps, classes = torch.tensor([0, 17, 500, 999]), torch.tensor([0, 3, 6, CLASSES])
    leaf = latents.clone().requires_grad_()
    model.zero_grad(set_to_none=True)
    model.requires_grad_(True)
    output = model(leaf, timestep=timesteps, class_labels=classes).sample
    torch.nn.functional.mse_loss(output, target).backward()
    gradients = {f"gradient.{name}": value.grad for name, value in model.named_parameters()}
    model.requires_grad_(False)
    return dict(latents=latents, target=target, timesteps=timesteps, classes=classes, output=output,
                latents_gradient=leaf.grad) | gradients


def scheduler():
    return DDIMScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear", clip_sample=False)


def write_base(folder, model, vae):
    pipeline = DiTPipeline(transformer=model, vae=vae, scheduler=scheduler(), id2label=NAMES)
    pipeline.save_pretrained(folder)
    # The published folders have them; save_pretrained leaves them out.
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | dict(id2label=NAMES)))
    return pipeline


def sampled(pipeline, model, vae, arrays, generator):
    """DiTPipeline at guidance 1 and 3 from given noise. It has the null class of 1,000 classes built in: the labels that it makes
    of that are put right on the way into the network."""
    size = model.config.sample_size
    noise = torch.randn(2, 4, size, size, generator=generator)
    plain = model.forward
    model.forward = lambda x, timestep, class_labels: plain(x, timestep=timestep, class_labels=class_labels.clamp(max=CLASSES))
    import diffusers.pipelines.dit.pipeline_dit as module

    before, module.randn_tensor = module.randn_tensor, lambda *args, **kwargs: noise.clone()
    pipeline.set_progress_bar_config(disable=True)
    for guidance in (1.0, 3.0):
        pictures = pipeline(class_labels=[2, 6], guidance_scale=guidance, num_inference_steps=5, output_type="np").images
        arrays[f"pictures.{guidance:.0f}"] = torch.from_numpy(pictures)
    module.randn_tensor, model.forward = before, plain
    # The published code's guidance: of the first three channels alone.
    x, steps = noise, scheduler()
    steps.set_timesteps(5)
    labels = torch.tensor([2, 6, CLASSES, CLASSES])
    for t in steps.timesteps:
        out = model(torch.cat([x, x]), timestep=t[None].expand(4), class_labels=labels).sample[:, :4]
        kept, null = out.chunk(2)
        guided = torch.cat([null[:, :3] + 3.0 * (kept[:, :3] - null[:, :3]), kept[:, 3:]], dim=1)
        x = steps.step(guided, t, x).prev_sample
    arrays["noise"], arrays["three_channels"] = noise, x


def write(repository, out):
    for index, (name, spec) in enumerate(MODELS.items()):
        generator = torch.Generator().manual_seed(900 + index)
        shutil.rmtree(out / name, ignore_errors=True)
        model = networks.randomise(DiTTransformer2DModel(**spec["config"]), generator)
        if spec["shared"]:
            share(model)
        vae = networks.randomise(AutoencoderKL(
            block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8, sample_size=16, scaling_factor=0.4,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2), generator)
        pipeline = write_base(out / name, model, vae)
        arrays = expected(model, spec["size"], generator)
        sampled(pipeline, model, vae, arrays, generator)
        save_file({key: value.detach().clone().contiguous() for key, value in arrays.items()}, out / f"{name}.safetensors")
        if not spec["shared"]:
            continue
        # As published: one .pt file; the sinusoids' frequencies begin at 1 and end one step above 1/10,000, and the second norm's
        # epsilon is the first's.
        folder = out / "dit_published"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(out / name, folder)
        for file in (folder / "transformer").glob("diffusion_pytorch_model*"):
            file.unlink()
        torch.save(published(model), folder / "transformer/DiT-random.pt")
        for block in model.transformer_blocks:
            block.norm1.emb.time_proj.downscale_freq_shift = 0
            block.norm3.eps = 1e-6
        arrays = expected(model, spec["size"], generator)
        save_file({key: value.detach().clone().contiguous() for key, value in arrays.items()}, out / "dit_published.safetensors")
    (out / "dit.json").write_text(json.dumps(dict(classes=CLASSES, names=NAMES)))

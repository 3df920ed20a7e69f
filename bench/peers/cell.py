"""One cell of a DreamBooth sweep with diffusers and transformers, as a trial of Loupe computes it: an adapter by forward hooks, or
a LoRA of peft; then pictures by the StableDiffusionPipeline, and their CLIP embeddings.

Class pictures, text encodings and latents are made once per process and shared by its trials, as Loupe's workers do.
"""

import pathlib
import time

import numpy
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from PIL import Image
from transformers import CLIPModel, CLIPProcessor


ACTIVATIONS = {"relu": torch.nn.ReLU, "silu": torch.nn.SiLU}


def bottleneck(down, up, activation, *before):
    """A(y), zero at first."""
    torch.nn.init.zeros_(up.weight)
    torch.nn.init.zeros_(up.bias)
    return torch.nn.Sequential(*before, down, ACTIVATIONS[activation](), up)


def tokens_adapter(width, hidden, activation):
    return bottleneck(torch.nn.Linear(width, hidden), torch.nn.Linear(hidden, width), activation)


def pictures_adapter(reads, writes, groups, hidden, activation):
    """Of `reads` channels to `writes`, as in the paper's code."""
    return bottleneck(torch.nn.Conv2d(reads, hidden, 3, padding=1), torch.nn.Conv2d(hidden, writes, 3, padding=1), activation,
                      torch.nn.GroupNorm(groups, reads), torch.nn.SiLU())


def changer(adapter, reads, writes):
    """change(position, x, to): `to` with what the adapter adds at this position; y is read at `reads` on the way. x() is the tensor at
    the position, and asked for only where it is read."""
    seen = {}

    def change(position, x, to):
        if position == reads:
            seen["y"] = x()
        return to + adapter(seen["y"]) if position == writes else to
    return change


def hook_transformer(block, adapter, reads, writes):
    """The positions of diffusers' BasicTransformerBlock, whose stream itself no module between its branches returns: a change of the
    stream is put into the branch that is added to it there."""
    change, stream = changer(adapter, reads, writes), {}

    def enter(module, args, kwargs):
        stream["x"] = change("SA_in", lambda: args[0], args[0])
        return (stream["x"], *args[1:]), kwargs

    def self_attended(module, args, out):
        return change("CA_in", lambda: stream["x"] + out, change("SA_out", lambda: out, out))

    def cross_attending(module, args, kwargs):
        context = kwargs["encoder_hidden_states"]
        return args, {**kwargs, "encoder_hidden_states": change("CA_c", lambda: context, context)}

    def cross_attended(module, args, out):
        return change("FFN_in", lambda: stream["x"] + out, change("CA_out", lambda: out, out))

    return [block.register_forward_pre_hook(enter, with_kwargs=True),
            block.attn1.register_forward_hook(self_attended),
            block.norm2.register_forward_pre_hook(lambda module, args: stream.update(x=args[0])),
            block.attn2.register_forward_pre_hook(cross_attending, with_kwargs=True),
            block.attn2.register_forward_hook(cross_attended),
            block.ff.register_forward_hook(lambda module, args, out: change("FFN_out", lambda: out, out)),
            block.register_forward_hook(lambda module, args, out: change("Trans_out", lambda: out, out))]


def hook_residual(block, adapter, reads, writes):
    """The positions of diffusers' ResnetBlock2D."""
    # The gradient of PyTorch's GroupNorm ends the process where its input is channels last and has none itself (2.13).
    safe = lambda x: x if x.requires_grad else x.contiguous()
    change = changer(lambda x: adapter(safe(x)), reads, writes)
    return [block.register_forward_pre_hook(lambda module, args: (change("Res_in", lambda: args[0], args[0]), *args[1:])),
            block.register_forward_hook(lambda module, args, out: change("Res_out", lambda: out, out))]


def attach_adapters(unet, cell):
    """One in each block that has the cell's positions: the adapters, and the handles of their hooks."""
    adapters, handles = [], []
    reads, writes = cell["input"], cell["output"]
    for block in unet.modules():
        kind = type(block).__name__
        if kind == "ResnetBlock2D" and reads.startswith("Res"):
            width = block.in_channels if reads == "Res_in" else block.out_channels
            to = block.in_channels if writes == "Res_in" else block.out_channels
            adapters.append(pictures_adapter(width, to, block.norm1.num_groups, cell["width"], cell["activation"]))
            handles += hook_residual(block, adapters[-1], reads, writes)
        elif kind == "BasicTransformerBlock" and not reads.startswith("Res"):
            width = block.attn2.to_k.in_features if reads == "CA_c" else block.attn1.to_q.in_features
            adapters.append(tokens_adapter(width, cell["width"], cell["activation"]))
            handles += hook_transformer(block, adapters[-1], reads, writes)
    return adapters, handles


class Peer:
    """A process's share: everything that its trials have in common."""

    def __init__(self, base, scorer, images, prompt, class_prompt, class_images, options):
        self.options = options
        self.dtype = torch.bfloat16 if options["precision"] == "bf16" else torch.float32
        self.device = torch.device(options["device"])
        self.pipeline = StableDiffusionPipeline.from_pretrained(base, torch_dtype=torch.float32, safety_checker=None).to(self.device)
        self.pipeline.set_progress_bar_config(disable=True)
        self.pipeline.scheduler = DPMSolverMultistepScheduler.from_config(self.pipeline.scheduler.config)
        self.pipeline.unet.requires_grad_(False).to(memory_format=torch.channels_last)
        self.scorer = CLIPModel.from_pretrained(scorer, torch_dtype=torch.float32).to(self.device).eval()
        self.processor = CLIPProcessor.from_pretrained(scorer)
        self.prompt = prompt
        with torch.no_grad():
            side = self.pipeline.unet.config.sample_size * self.pipeline.vae_scale_factor
            own = [Image.open(path).convert("RGB").resize((side, side)) for path in sorted(pathlib.Path(images).glob("*.png"))]
            self.instance = self.encode(own), self.text([prompt])
            self.prior = self.encode(self.sample(class_prompt, class_images)), self.text([class_prompt])

    def autocast(self):
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype != torch.float32)

    def encode(self, pictures):
        pixels = torch.stack([torch.from_numpy(numpy.array(picture)).permute(2, 0, 1) for picture in pictures]).to(self.device) / 127.5 - 1
        return self.pipeline.vae.encode(pixels).latent_dist.mean * self.pipeline.vae.config.scaling_factor

    def text(self, prompts):
        return self.pipeline.encode_prompt(prompts, self.device, 1, False)[0]

    def sample(self, prompt, count):
        pictures = []
        for first in range(0, count, 8):
            noise = torch.randn(min(8, count - first), 4, *[self.pipeline.unet.config.sample_size] * 2,
                                generator=torch.Generator().manual_seed(first)).to(self.device)
            with torch.no_grad(), self.autocast():
                pictures += self.pipeline(prompt=[prompt] * len(noise), latents=noise, guidance_scale=self.options["guidance"],
                                          num_inference_steps=self.options["sample_steps"]).images
        return pictures

    def attach(self, way, cell):
        """What is trained, and how to take it away again."""
        unet = self.pipeline.unet
        if way == "peft":
            from peft import LoraConfig
            unet.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
            return [p for p in unet.parameters() if p.requires_grad], unet.unload_lora
        adapters, handles = attach_adapters(unet, cell)
        parameters = [p for adapter in adapters for p in adapter.to(self.device).parameters()]
        return parameters, lambda: [handle.remove() for handle in handles]

    def run(self, way, cell, seed):
        """Seconds of processor by phase, and the mean likeness of the pictures to each other as a token of the scoring."""
        torch.manual_seed(seed)
        parameters, detach = self.attach(way, cell)
        unet, schedule = self.pipeline.unet, self.pipeline.scheduler
        optimizer = torch.optim.AdamW(parameters, lr=cell["learning_rate"], fused=True)
        alphas = schedule.alphas_cumprod.to(self.device)
        forward = torch.compile(unet) if self.options["compile"] else unet
        seconds, start = {}, time.process_time()
        for _ in range(self.options["steps"]):
            latents, context = [], []
            for pictures, text in (self.instance, self.prior):
                rows = torch.randint(len(pictures), (self.options["batch"],))
                latents.append(pictures[rows])
                context.append(text.expand(self.options["batch"], -1, -1))
            latents, context = torch.cat(latents), torch.cat(context)
            noise, t = torch.randn_like(latents), torch.randint(len(alphas), (len(latents),), device=self.device)
            scale = alphas[t].view(-1, 1, 1, 1)
            with self.autocast():
                predicted = forward(scale.sqrt() * latents + (1 - scale).sqrt() * noise, t, context, return_dict=False)[0]
            errors = (predicted.float() - noise).square().flatten(1).mean(1)
            (errors[:self.options["batch"]].mean() + errors[self.options["batch"]:].mean()).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        seconds["train"], start = time.process_time() - start, time.process_time()
        pictures = self.sample(self.prompt, self.options["samples"])
        seconds["sample"], start = time.process_time() - start, time.process_time()
        with torch.no_grad():
            embedded = self.scorer.get_image_features(**self.processor(images=pictures, return_tensors="pt").to(self.device))
            embedded = embedded if isinstance(embedded, torch.Tensor) else embedded.pooler_output
            embedded = torch.nn.functional.normalize(embedded, dim=-1)
            score = float((embedded @ embedded.T).mean())
        seconds["score"] = time.process_time() - start
        detach()
        return seconds, score

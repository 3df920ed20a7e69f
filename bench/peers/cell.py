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


class Adapter(torch.nn.Module):
    """x + A(y), y read at `place` of its block and x written at the next one; see hook()."""

    def __init__(self, width, hidden, activation):
        super().__init__()
        self.down, self.up = torch.nn.Linear(width, hidden), torch.nn.Linear(hidden, width)
        self.activation = {"relu": torch.nn.ReLU(), "silu": torch.nn.SiLU()}[activation]
        torch.nn.init.zeros_(self.up.weight)
        torch.nn.init.zeros_(self.up.bias)

    def forward(self, x):
        return self.up(self.activation(self.down(x)))


def hook(block, adapter, reads, writes):
    """The token positions that diffusers' modules show: SA_in, CA_in and CA_out to read; FFN_in and Trans_out to write."""
    seen, handles = {}, []
    if reads == "SA_in":
        handles.append(block.register_forward_pre_hook(lambda module, args: seen.update(x=args[0])))
    elif reads == "CA_in":
        # What norm2 normalises is the stream there.
        handles.append(block.norm2.register_forward_pre_hook(lambda module, args: seen.update(x=args[0])))
    else:
        handles.append(block.attn2.register_forward_hook(lambda module, args, out: seen.update(x=out)))
    if writes == "Trans_out":
        handles.append(block.register_forward_hook(lambda module, args, out: out + adapter(seen["x"])))
    else:
        # The stream goes on past norm3 as it was: the change is put into what attn2 adds to it.
        handles.append(block.attn2.register_forward_hook(
            lambda module, args, out: out + adapter(out if reads == "CA_out" else seen["x"])))
    return handles


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
        parameters, handles = [], []
        for name, block in unet.named_modules():
            if type(block).__name__ != "BasicTransformerBlock":
                continue
            adapter = Adapter(block.attn1.to_q.in_features, cell["width"], cell["activation"]).to(self.device)
            parameters += list(adapter.parameters())
            handles += hook(block, adapter, cell["input"], cell["output"])
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

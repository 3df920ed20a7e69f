"""LoRA by peft, BitFit and full fine-tuning by torch alone, the methods of transformer_methods.py, all on diffusers' UNet and
transformers' text encoder: loss, every gradient, and ten AdamW steps.

LoRA's B is 0 at first, which makes A's gradient 0 and every scale invisible: here both start away from 0.
"""

import json

import peft
import torch
import transformer_methods
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextModel

STEPS = 10
SKS = 2012  # the built-in tokenizer's "sks"
ATTENTION = r".*\.attn[12]\.to_(q|k|v|out\.0)"
TEXT_ATTENTION = ["q_proj", "k_proj", "v_proj", "out_proj"]


def matrices(module):
    return [name for name, layer in module.named_modules() if isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d))]


def fits(pattern, name):
    """`pattern` is a run of whole parts of the dotted name."""
    return f".{pattern}." in f".{name}."


# `settings` are ours; `unet` and `text` are what peft is told. The bases are networks.py's.
CASES = [
    dict(base="emoji_shape", settings={"method.kind": "lora", "method.rank": "4"},
         unet=dict(r=4, lora_alpha=4, target_modules=ATTENTION)),
    dict(base="sd_v1_like", settings={"method.kind": "lora", "method.rank": "3", "method.alpha": "6", "method.targets": "all"},
         unet=dict(r=3, lora_alpha=6, target_modules="matrices")),
    dict(base="linear_and_lists",
         settings={"method.kind": "lora", "method.rank": "8", "method.alpha": "16", "method.targets": "linear",
                   "method.rslora": "true"},
         unet=dict(r=8, lora_alpha=16, use_rslora=True,
                   target_modules=r".*transformer_blocks\..*(to_q|to_k|to_v|to_out\.0|proj|net\.2)")),
    dict(base="linear_and_lists",
         settings={"method.kind": "lora", "method.rank": "2", "method.targets": "all", "method.dora": "true"},
         unet=dict(r=2, lora_alpha=2, use_dora=True, target_modules="matrices")),
    dict(base="linear_and_lists",
         settings={"method.kind": "lora", "method.rank": "4", "method.targets": "cross-attention",
                   "method.text_encoder": "true"},
         unet=dict(r=4, lora_alpha=4, target_modules=r".*attn2\.to_(q|k|v|out\.0)"),
         text=dict(r=4, lora_alpha=4, target_modules=TEXT_ATTENTION)),
    dict(base="emoji_shape",
         settings={"method.kind": "lora", "method.rank": "4", "method.targets": "conv1 down_blocks.0 time_embedding.linear_1"},
         unet=dict(r=4, lora_alpha=4, target_modules="patterns")),
    dict(base="sd_v1_like", settings={"method.kind": "bitfit"}),
    dict(base="emoji_shape", settings={"method.kind": "full"}),
    dict(base="linear_and_lists",
         settings={"method.kind": "full", "method.layers": "attn2 conv_in.weight embeddings layers.1",
                   "method.text_encoder": "true"}),
    dict(base="linear_and_lists", settings={"method.kind": "textual-inversion", "method.token": "sks"}),
    dict(base="sd_v1_like", settings={"method.kind": "hypernetwork"}),
    dict(base="emoji_shape",
         settings={"method.kind": "hypernetwork", "method.layer_structure": "1, 2, 1.5, 1", "method.hidden_activation": "swish",
                   "method.layer_norm": "true", "method.activate_output": "true"}),
] + transformer_methods.CASES


def inject(module, options, settings, generator):
    options = dict(options)
    if options["target_modules"] == "matrices":
        options["target_modules"] = matrices(module)
    elif options["target_modules"] == "patterns":
        options["target_modules"] = [name for name in matrices(module)
                                     if any(fits(pattern, name) for pattern in settings["method.targets"].split())]
    peft.inject_adapter_in_model(peft.LoraConfig(lora_dropout=0.0, **options), module)
    found = {}
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(".lora_" in name)
        if ".lora_" not in name:
            continue
        with torch.no_grad():
            noise = torch.randn(parameter.shape, generator=generator)
            if "magnitude" in name:
                parameter.mul_(1 + 0.1 * noise)
            else:
                parameter.copy_(0.3 * noise * parameter[0].numel() ** -0.5)
        name = name.replace(".default.weight", "" if "magnitude" in name else ".weight")
        found[name.replace(".base_layer", "")] = parameter
    return found


def chosen(module, takes):
    found = {}
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(takes(name))
        if takes(name):
            found[name] = parameter
    return found


def word(text):
    """The row of one word, apart from the table."""
    table = text.get_input_embeddings()
    vectors = torch.nn.Parameter(table.weight[SKS].detach().clone()[None])
    table.register_forward_hook(lambda layer, ids, output: torch.where((ids[0] == SKS)[..., None], vectors[0], output))
    return {"sks": vectors}


class Before(torch.nn.Module):
    """A layer that reads x + f(x) in place of x."""

    def __init__(self, layer, network):
        super().__init__()
        self.layer, self.network = layer, network

    def forward(self, x):
        return self.layer(x + self.network(x))


def network(width, settings, generator):
    """f, in the order of its parts."""
    structure = [float(part) for part in settings.get("method.layer_structure", "1, 2, 1").split(",")]
    function = {"linear": None, "swish": torch.nn.Hardswish}[settings.get("method.hidden_activation", "linear")]
    parts = []
    for i in range(len(structure) - 1):
        out = int(width * structure[i + 1])
        parts.append(torch.nn.Linear(int(width * structure[i]), out))
        if function and (i < len(structure) - 2 or settings.get("method.activate_output") == "true"):
            parts.append(function())
        if settings.get("method.layer_norm") == "true":
            parts.append(torch.nn.LayerNorm(out))
    sequence = torch.nn.Sequential(*parts)
    for parameter in sequence.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = 0.3 * noise * parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.5 + 0.1 * noise
    return sequence


def hypernetworks(unet, settings, generator):
    """One pair for each width of a context, in all attentions of that width."""
    found, pairs = {}, {}
    attentions = [module for name, module in unet.named_modules() if name.endswith(("attn1", "attn2"))]
    for width in sorted({module.to_k.in_features for module in attentions}):
        pairs[width] = {layer: network(width, settings, generator) for layer in ("to_k", "to_v")}
        for layer, sequence in pairs[width].items():
            found |= {f"hypernetwork.{width}.{layer}.linear.{name}": value for name, value in sequence.named_parameters()}
    for module in attentions:
        for layer in ("to_k", "to_v"):
            linear = getattr(module, layer)
            setattr(module, layer, Before(linear, pairs[linear.in_features][layer]))
    return found


def attach(case, unet, text, generator):
    """What is trained, by its name in our files."""
    settings, kind = case["settings"], case["settings"]["method.kind"]
    if case in transformer_methods.CASES:
        return transformer_methods.attach(case, unet, generator)
    with_text = settings.get("method.text_encoder") == "true"
    if kind == "textual-inversion":
        return word(text)
    if kind == "hypernetwork":
        return hypernetworks(unet, settings, generator)
    if kind == "lora":
        in_unet = inject(unet, case["unet"], settings, generator)
        in_text = inject(text, case["text"], settings, generator) if with_text else {}
    elif kind == "bitfit":
        in_unet, in_text = chosen(unet, lambda name: name.endswith(".bias")), {}
    else:
        patterns = settings.get("method.layers", "all").split()
        takes = lambda name: patterns == ["all"] or any(fits(pattern, name) for pattern in patterns)
        in_unet, in_text = chosen(unet, takes), chosen(text, takes) if with_text else {}
    return {f"unet.{name}": value for name, value in in_unet.items()} | {
        f"text_encoder.text_model.{name.removeprefix('text_model.')}": value for name, value in in_text.items()}


def write(repository, out):
    arrays = {}
    generator = torch.Generator().manual_seed(700)
    for index, case in enumerate(CASES):
        folder = out / case["base"]
        unet = UNet2DConditionModel.from_pretrained(folder / "unet").eval().requires_grad_(False)
        text = CLIPTextModel.from_pretrained(folder / "text_encoder").eval().requires_grad_(False)
        parameters = attach(case, unet, text, generator)
        key = f"{index}."
        size = 16 if case["base"] == "sd_v1_like" else 8  # see adapters.py
        latents = torch.randn(STEPS + 1, 2, 4, size, size, generator=generator)
        noise = torch.randn(STEPS + 1, 2, 4, size, size, generator=generator)
        timesteps = torch.randint(0, 1000, (STEPS + 1, 2), generator=generator)
        ids = torch.randint(0, 2000, (2, 7), generator=generator)
        ids[:, -1] = 2014
        if case["settings"]["method.kind"] == "textual-inversion":
            ids[:, 2] = SKS
        arrays |= {key + "latents": latents, key + "noise": noise, key + "timesteps": timesteps, key + "ids": ids}
        arrays |= {f"{key}initial.{name}": value.detach().clone() for name, value in parameters.items()}
        optimiser = torch.optim.AdamW(parameters.values(), lr=1e-3, weight_decay=0.01)
        losses = []
        for step in range(STEPS + 1):
            optimiser.zero_grad()
            output = unet(latents[step], timesteps[step], text(ids).last_hidden_state).sample
            if step == 0:
                arrays[key + "output"] = output.detach().clone()
            loss = torch.nn.functional.mse_loss(output, noise[step])
            losses.append(loss.detach())
            if step == STEPS:
                break  # the loss after the last step
            loss.backward()
            if step == 0:
                arrays |= {f"{key}gradient.{name}": value.grad.clone() for name, value in parameters.items()}
            optimiser.step()
        arrays[key + "losses"] = torch.stack(losses)
        arrays |= {f"{key}final.{name}": value.detach().clone() for name, value in parameters.items()}
    save_file({name: value.contiguous() for name, value in arrays.items()}, out / "methods.safetensors")
    (out / "methods.json").write_text(json.dumps([dict(base=case["base"], settings=case["settings"]) for case in CASES]))

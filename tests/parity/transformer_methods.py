"""Methods on the blocks of diffusers' UNet that no package has for it (DiffFit, visual prompts, AdaptFormer, the sequential
adapter), as their papers' formulas on hooks of torch's; and peft's IA3, LoHa and LoKr.
"""

import re

import peft
import torch
import torch.nn.functional as F

# `settings` are ours; `peft`, where there is one, is what peft is told. The bases are networks.py's.
ATTENTION = r".*\.attn[12]\.to_(q|k|v|out\.0)"
CASES = [
    dict(base="sd_v1_like", settings={"method.kind": "difffit"}),
    dict(base="linear_and_lists", settings={"method.kind": "difffit", "method.gamma": "ff branch",
                                            "method.gamma_blocks": "2", "method.gamma_from": "last"}),
    dict(base="emoji_shape", settings={"method.kind": "adaptformer"}),
    dict(base="linear_and_lists", settings={"method.kind": "sequential-adapter", "method.bottleneck": "8"}),
    dict(base="linear_and_lists", settings={"method.kind": "vpt-deep"}),
    dict(base="linear_and_lists", settings={"method.kind": "vpt-shallow", "method.tokens": "7"}),
    dict(base="sd_v1_like", settings={"method.kind": "ia3"},
         peft=peft.IA3Config(target_modules=r".*(to_k|to_v|ff\.net\.2)", feedforward_modules=r".*ff\.net\.2")),
    dict(base="emoji_shape", settings={"method.kind": "loha", "method.rank": "3", "method.alpha": "6",
                                       "method.targets": "all"},
         peft=lambda layers: peft.LoHaConfig(r=3, alpha=6, target_modules=layers)),
    dict(base="sd_v1_like", settings={"method.kind": "lokr", "method.rank": "3", "method.alpha": "6", "method.factor": "2",
                                      "method.targets": "all"},
         peft=lambda layers: peft.LoKrConfig(r=3, alpha=6, decompose_factor=2, target_modules=layers)),
    dict(base="linear_and_lists", settings={"method.kind": "lokr", "method.rank": "64"},
         peft=peft.LoKrConfig(r=64, alpha=64, target_modules=ATTENTION)),
    # Where 12 does not divide a width, the nearest that does is taken: 8 or 10 here.
    dict(base="emoji_shape", settings={"method.kind": "oft", "method.block_size": "12", "method.targets": "linear"},
         peft=peft.OFTConfig(oft_block_size=12, use_cayley_neumann=False,
                             target_modules=r".*transformer_blocks\..*(to_q|to_k|to_v|to_out\.0|proj|net\.2)")),
    dict(base="linear_and_lists", settings={"method.kind": "oft", "method.block_size": "8", "method.cayley": "neumann"},
         peft=peft.OFTConfig(oft_block_size=8, use_cayley_neumann=True, target_modules=ATTENTION)),
]


def blocks_of(unet):
    """The transformer blocks by name, in the order in which the network computes them."""
    order = {"down_blocks": 0, "mid_block": 1, "up_blocks": 2}
    found = [(name, module) for name, module in unet.named_modules()
             if type(module).__name__ == "BasicTransformerBlock"]
    return sorted(found, key=lambda item: order[item[0].split(".")[0]])


class Maker:
    """Parameters away from where training would begin, so that none is without effect."""

    def __init__(self, generator):
        self.generator, self.found = generator, {}

    def __call__(self, name, shape, centre=0.0, spread=0.1):
        value = centre + spread * torch.randn(shape, generator=self.generator)
        self.found[name] = torch.nn.Parameter(value)
        return self.found[name]

    def bottleneck(self, name, width, hidden, activation):
        down = self(f"{name}.down.weight", (hidden, width), spread=width ** -0.5)
        # Most of relu's units are on: one that few tokens turn on has gradients of the size of their rounding.
        down_bias = self(f"{name}.down.bias", (hidden,), centre=float(activation is torch.relu))
        up = self(f"{name}.up.weight", (width, hidden), spread=0.3 * hidden ** -0.5)
        up_bias = self(f"{name}.up.bias", (width,))
        return lambda x: F.linear(activation(F.linear(x, down, down_bias)), up, up_bias)


def scaled(gamma):
    return lambda module, inputs, output: gamma * output


def difffit(unet, settings, make):
    for module_name, module in unet.named_modules():
        is_norm = isinstance(module, (torch.nn.GroupNorm, torch.nn.LayerNorm))
        for name, parameter in module.named_parameters(recurse=False):
            if name == "bias" or is_norm:
                make.found[f"unet.{module_name}.{name}"] = parameter.requires_grad_(True)
    words = settings.get("method.gamma", "qkv proj branch").split()
    blocks = blocks_of(unet)
    count = min(int(settings.get("method.gamma_blocks", "14")), len(blocks))
    chosen = blocks[:count] if settings.get("method.gamma_from", "first") == "first" else blocks[len(blocks) - count:]
    inner = {"qkv": r"attn[12]\.to_[qkv]", "proj": r"attn[12]\.to_out\.0", "ff": r"ff\.net\.(0\.proj|2)"}
    for block_name, block in blocks:
        for name, layer in block.named_modules():
            if any(word in inner and re.fullmatch(inner[word], name) for word in words):
                layer.register_forward_hook(
                    scaled(make(f"unet.{block_name}.{name}.gamma", (layer.out_features,), centre=1)))
        if "branch" in words and any(block is one for _, one in chosen):
            width = block.norm1.weight.shape[0]
            for branch in ("attn1", "attn2", "ff"):
                getattr(block, branch).register_forward_hook(
                    scaled(make(f"unet.{block_name}.gamma_{branch}", (width,), centre=1)))


def adaptformer(unet, settings, make):
    hidden = int(settings.get("method.bottleneck", "64"))
    for block_name, block in blocks_of(unet):
        adapter = make.bottleneck(f"{block_name}.adapter", block.norm1.weight.shape[0], hidden, torch.relu)
        seen = {}
        block.norm3.register_forward_pre_hook(lambda module, inputs, seen=seen: seen.update(x=inputs[0]))
        block.ff.register_forward_hook(
            lambda module, inputs, output, seen=seen, adapter=adapter: output + 0.1 * adapter(seen["x"]))


def sequential(unet, settings, make):
    hidden = int(settings.get("method.bottleneck", "64"))
    for block_name, block in blocks_of(unet):
        for sublayer in ("attn1", "attn2", "ff"):
            adapter = make.bottleneck(f"{block_name}.{sublayer}.adapter", block.norm1.weight.shape[0], hidden, F.gelu)
            getattr(block, sublayer).register_forward_hook(
                lambda module, inputs, output, adapter=adapter: output + adapter(output))


def prompts(unet, settings, make):
    count = int(settings.get("method.tokens", "5"))

    def put(block, values):
        def before(module, inputs, kwargs):
            rows = values.unsqueeze(0).expand(inputs[0].shape[0], -1, -1)
            return (torch.cat([rows, inputs[0]], 1), *inputs[1:]), kwargs
        block.register_forward_pre_hook(before, with_kwargs=True)

    def take(block):
        block.register_forward_hook(lambda module, inputs, output: output[:, count:])

    blocks = blocks_of(unet)
    stack = blocks[0][0].rsplit(".", 1)[0]
    for block_name, block in blocks:
        if settings["method.kind"] == "vpt-deep" or block is blocks[0][1]:
            put(block, make(f"{block_name}.prompt", (count, block.norm1.weight.shape[0]), spread=0.5))
        if settings["method.kind"] == "vpt-deep":
            take(block)
    if settings["method.kind"] == "vpt-shallow":
        take([block for name, block in blocks if name.rsplit(".", 1)[0] == stack][-1])


def from_peft(unet, config, make):
    layers = [name for name, layer in unet.named_modules() if isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d))]
    peft.inject_adapter_in_model(config(layers) if callable(config) else config, unet)
    for name, parameter in unet.named_parameters():
        own = re.search(r"\.(ia3_l|hada_|lokr_|oft_R)", name) is not None
        parameter.requires_grad_(own)
        if not own:
            continue
        with torch.no_grad():
            noise = torch.randn(parameter.shape, generator=make.generator)
            factors = "ia3_l" in name
            if "oft_R" in name:  # of blocks that turn by about a tenth
                parameter.copy_(0.1 * noise * parameter[0].numel() ** -0.25)
                name = name.replace(".default", "")
                make.found["unet." + name] = parameter
                continue
            # Two of LoHa's products multiply, and so do LoKr's factors.
            parameter.copy_(1 + 0.1 * noise if factors else 0.5 * noise * parameter[0].numel() ** -0.25)
        make.found["unet." + name.removesuffix(".default")] = parameter


def attach(case, unet, generator):
    """What is trained, by its name in our files."""
    make, settings = Maker(generator), case["settings"]
    if "peft" in case:
        from_peft(unet, case["peft"], make)
    else:
        {"difffit": difffit, "adaptformer": adaptformer, "sequential-adapter": sequential, "vpt-deep": prompts,
         "vpt-shallow": prompts}[settings["method.kind"]](unet, settings, make)
    return make.found

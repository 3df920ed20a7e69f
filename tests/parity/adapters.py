"""In/out adapters by the paper's equations (arXiv 2303.18181 §3), on diffusers' own UNet: loss, every gradient, and ten
AdamW steps, for each of the 20 legal (input, output) pairs, with every activation and scale.

Written apart from the C++ code and in another way: each block's forward is replaced by one that spells out its equations
with the adapter in its place.
"""

import json

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from safetensors.torch import save_file

PAIRS = [
    *[("SA_in", output) for output in ("SA_in", "CA_in", "FFN_in", "Trans_out")],
    *[("SA_out", output) for output in ("CA_in", "FFN_in", "Trans_out")],
    *[("CA_in", output) for output in ("CA_in", "FFN_in", "Trans_out")],
    ("CA_c", "CA_c"),
    *[("CA_out", output) for output in ("FFN_in", "Trans_out")],
    *[("FFN_in", output) for output in ("FFN_in", "Trans_out")],
    ("FFN_out", "Trans_out"), ("Trans_out", "Trans_out"),
    ("Res_in", "Res_in"), ("Res_in", "Res_out"), ("Res_out", "Res_out"),
]
ACTIVATIONS = dict(relu=torch.nn.ReLU, sigmoid=torch.nn.Sigmoid, silu=torch.nn.SiLU, identity=torch.nn.Identity)
SCALES = (0.5, 1.0, 2.0, 4.0)
WIDTH = 6
STEPS = 10
BASES = ("emoji_shape", "sd_v1_like", "linear_and_lists")


class TokenAdapter(torch.nn.Module):
    def __init__(self, width, activation):
        super().__init__()
        self.down, self.activation = torch.nn.Linear(width, WIDTH), activation()
        self.up = torch.nn.Linear(WIDTH, width)

    def forward(self, x):
        return self.up(self.activation(self.down(x)))


class PictureAdapter(torch.nn.Module):
    def __init__(self, channels, out, groups, activation):
        super().__init__()
        self.norm = torch.nn.GroupNorm(groups, channels)
        self.down, self.activation = torch.nn.Conv2d(channels, WIDTH, 3, padding=1), activation()
        self.up = torch.nn.Conv2d(WIDTH, out, 3, padding=1)

    def forward(self, x):
        return self.up(self.activation(self.down(torch.nn.functional.silu(self.norm(x)))))


def transformer_forward(block, adapter, source, target, scale):
    def forward(hidden_states, encoder_hidden_states=None, **_):
        seen = {}

        def at(position, value):
            if position == source:
                seen["x"] = value
            return value + scale * adapter(seen["x"]) if position == target else value

        x = at("SA_in", hidden_states)
        x = x + at("SA_out", block.attn1(block.norm1(x)))
        x = at("CA_in", x)
        context = at("CA_c", encoder_hidden_states)
        x = x + at("CA_out", block.attn2(block.norm2(x), encoder_hidden_states=context))
        x = at("FFN_in", x)
        x = x + at("FFN_out", block.ff(block.norm3(x)))
        return at("Trans_out", x)

    return forward


def residual_forward(block, adapter, source, target, scale):
    def forward(x, time, *_, **__):
        original = x
        if source == "Res_in":
            change = scale * adapter(original)
        if target == "Res_in":
            x = x + change
        h = block.conv1(torch.nn.functional.silu(block.norm1(x)))
        h = h + block.time_emb_proj(torch.nn.functional.silu(time))[:, :, None, None]
        h = block.conv2(torch.nn.functional.silu(block.norm2(h)))
        y = (block.conv_shortcut(x) if block.conv_shortcut is not None else x) + h
        if source == "Res_out":
            change = scale * adapter(y)
        return y + change if target == "Res_out" else y

    return forward


def blocks_in_order(unet):
    """Way down, middle, way up; within a block the residual blocks before the transformers."""
    for part in ("down_blocks", "mid_block", "up_blocks"):
        levels = getattr(unet, part)
        for prefix, level in ([(part, levels)] if part == "mid_block" else
                              [(f"{part}.{i}", level) for i, level in enumerate(levels)]):
            for kind in ("resnets", "attentions"):
                for name, module in getattr(level, kind, torch.nn.Module()).named_modules():
                    if isinstance(module, (BasicTransformerBlock, ResnetBlock2D)):
                        yield f"{prefix}.{kind}.{name}", module


def attach(unet, source, target, activation, scale, seed):
    """The adapters' parameters by name, with torch.nn's own initial values in the blocks' order."""
    torch.manual_seed(seed)
    parameters = {}
    for name, block in blocks_in_order(unet):
        if isinstance(block, ResnetBlock2D) and source.startswith("Res"):
            channels = block.in_channels if source == "Res_in" else block.out_channels
            out = block.in_channels if target == "Res_in" else block.out_channels
            groups = 32 if channels % 32 == 0 else unet.config.norm_num_groups
            adapter = PictureAdapter(channels, out, groups, ACTIVATIONS[activation])
            block.forward = residual_forward(block, adapter, source, target, scale)
        elif isinstance(block, BasicTransformerBlock) and not source.startswith("Res"):
            width = unet.config.cross_attention_dim if source == "CA_c" else block.norm1.weight.shape[0]
            adapter = TokenAdapter(width, ACTIVATIONS[activation])
            block.forward = transformer_forward(block, adapter, source, target, scale)
        else:
            continue
        for key, parameter in adapter.named_parameters():
            parameters[f"{name}.adapter.{key}"] = parameter
    return parameters


def write(repository, out):
    cases, arrays = [], {}
    generator = torch.Generator().manual_seed(500)
    for index, (source, target) in enumerate(PAIRS):
        base = BASES[index % len(BASES)]
        activation = list(ACTIVATIONS)[index % 4]
        scale = SCALES[(index + index // 4) % 4]
        case = dict(base=base, input=source, output=target, activation=activation, scale=scale, width=WIDTH,
                    seed=1000 + index, learning_rate=1e-3, weight_decay=0.01, steps=STEPS)
        cases.append(case)
        unet = UNet2DConditionModel.from_pretrained(out / base / "unet").eval().requires_grad_(False)
        parameters = attach(unet, source, target, activation, scale, case["seed"])
        key = f"{index}."
        # Four levels need 16: at 1x1 pixels and two channels a group, GroupNorm would only keep signs, and any rounding
        # error near a tie would decide the result.
        size = 16 if base == "sd_v1_like" else 8
        latents = torch.randn(STEPS + 1, 2, 4, size, size, generator=generator)
        noise = torch.randn(STEPS + 1, 2, 4, size, size, generator=generator)
        timesteps = torch.randint(0, 1000, (STEPS + 1, 2), generator=generator)
        context = torch.randn(2, 7, unet.config.cross_attention_dim, generator=generator)
        arrays |= {key + "latents": latents, key + "noise": noise, key + "timesteps": timesteps, key + "context": context}
        arrays |= {f"{key}initial.{name}": value.detach().clone() for name, value in parameters.items()}
        optimiser = torch.optim.AdamW(parameters.values(), lr=1e-3, weight_decay=0.01)
        losses = []
        for step in range(STEPS + 1):
            optimiser.zero_grad()
            loss = torch.nn.functional.mse_loss(unet(latents[step], timesteps[step], context).sample, noise[step])
            losses.append(loss.detach())
            if step == STEPS:
                break  # the loss after the last step
            loss.backward()
            if step == 0:
                arrays |= {f"{key}gradient.{name}": value.grad.clone() for name, value in parameters.items()}
            optimiser.step()
        arrays[key + "losses"] = torch.stack(losses)
        arrays |= {f"{key}final.{name}": value.detach().clone() for name, value in parameters.items()}
    save_file({name: value.contiguous() for name, value in arrays.items()}, out / "adapters.safetensors")
    (out / "adapters.json").write_text(json.dumps(cases))

"""Noise schedules and samplers, step by step, with a stand-in for the network that both languages can compute."""

import json

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from safetensors.torch import save_file


def stand_in(latents, timestep):
    """Bounded, different at every timestep, and not linear in the latents."""
    return torch.tanh(0.9 * latents + 0.001 * timestep) - 0.3 * latents


def schedulers():
    """name → (scheduler, its settings for the C++ side)."""
    scaled = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    linear = dict(beta_start=0.0001, beta_end=0.02, beta_schedule="linear")
    cases = [
        ("dpm_25", "dpm", 25, dict(**scaled, timestep_spacing="linspace", steps_offset=1)),
        ("dpm_leading_20", "dpm", 20, dict(**scaled, timestep_spacing="leading", steps_offset=1)),
        ("dpm_few_7", "dpm", 7, dict(**scaled, timestep_spacing="linspace")),
        ("dpm_one", "dpm", 1, dict(**scaled, timestep_spacing="linspace")),
        ("dpm_two_v", "dpm", 2, dict(**scaled, timestep_spacing="linspace", prediction_type="v_prediction")),
        ("dpm_v_linear_16", "dpm", 16, dict(**linear, timestep_spacing="linspace", prediction_type="v_prediction")),
        ("ddim_50", "ddim", 50, dict(**scaled, timestep_spacing="leading", steps_offset=1, set_alpha_to_one=False)),
        ("ddim_linspace_25", "ddim", 25, dict(**scaled, timestep_spacing="linspace", set_alpha_to_one=True)),
        ("ddim_v_30", "ddim", 30, dict(**scaled, timestep_spacing="leading", prediction_type="v_prediction",
                                       set_alpha_to_one=True)),
        ("ddim_linear_1", "ddim", 1, dict(**linear, timestep_spacing="leading", set_alpha_to_one=True)),
    ]
    for name, kind, steps, config in cases:
        if kind == "ddim":
            scheduler = DDIMScheduler(clip_sample=False, **config)
        else:
            scheduler = DPMSolverMultistepScheduler(algorithm_type="dpmsolver++", solver_order=2,
                                                    solver_type="midpoint", lower_order_final=True,
                                                    final_sigmas_type="zero", **config)
        yield name, kind, steps, config, scheduler


def write(repository, out):
    generator = torch.Generator().manual_seed(300)
    start = torch.randn(2, 4, 6, 6, generator=generator)
    arrays, cases = dict(start=start), []
    folder = out / "schedules"
    for name, kind, steps, config, scheduler in schedulers():
        scheduler.set_timesteps(steps)
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "scheduler_config.json").write_text(json.dumps(config))
        latents, walk = start, []
        for timestep in scheduler.timesteps:
            latents = scheduler.step(stand_in(latents, float(timestep)), timestep, latents).prev_sample
            walk.append(latents)
        arrays[f"{name}.timesteps"] = scheduler.timesteps.to(torch.int64)
        arrays[f"{name}.walk"] = torch.stack(walk)
        cases.append(dict(name=name, kind=kind, steps=steps))

    x0 = torch.randn(5, 4, 3, 3, generator=generator)
    noise = torch.randn(5, 4, 3, 3, generator=generator)
    timesteps = torch.tensor([0, 1, 333, 998, 999])
    for name, config in (("scaled", dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")),
                         ("linear", dict(beta_start=0.0001, beta_end=0.02, beta_schedule="linear"))):
        ddpm = DDPMScheduler(**config)
        arrays[f"{name}.alphas_cumprod"] = ddpm.alphas_cumprod
        arrays[f"{name}.noised"] = ddpm.add_noise(x0, noise, timesteps)
        arrays[f"{name}.velocity"] = ddpm.get_velocity(x0, noise, timesteps)
    arrays |= dict(x0=x0, noise=noise, noise_timesteps=timesteps)
    save_file({key: value.contiguous() for key, value in arrays.items()}, out / "samplers.safetensors")
    (out / "samplers.json").write_text(json.dumps(cases))

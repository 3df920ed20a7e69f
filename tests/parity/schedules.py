"""Every scheduler of diffusers for noise in discrete time, with every one of its settings changed: what its file then means.

For each file: the walks of DDIM and DPM-Solver++(2M) made from it by from_config, where diffusers can make them. The C++ side
must take the same walk or refuse the file by the changed key's name.
"""

import inspect
import json
import tempfile

import diffusers
import torch
from diffusers.schedulers import KarrasDiffusionSchedulers
from safetensors.torch import save_file
from samplers import stand_in

T, STEPS = 40, 6
# diffusers' classes of another kind: flow matching, EDM, consistency and distilled models, other data.
OTHER_KINDS = ["CMStochasticIterativeScheduler", "CogVideoXDDIMScheduler", "EDMDPMSolverMultistepScheduler", "EDMEulerScheduler",
               "FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler", "LCMScheduler", "SCMScheduler", "TCDScheduler",
               "UnCLIPScheduler"]
BASES = [dict(beta_start=0.001, beta_end=0.2, beta_schedule="scaled_linear", num_train_timesteps=T),
         dict(beta_start=0.002, beta_end=0.3, beta_schedule="linear", num_train_timesteps=T, prediction_type="v_prediction"),
         dict(beta_start=0.002, beta_end=0.3, beta_schedule="squaredcos_cap_v2", num_train_timesteps=T)]
VALUES = dict(num_train_timesteps=[60], beta_start=[0.005], beta_end=[0.25], beta_schedule=["linear", "squaredcos_cap_v2", "sigmoid"],
              trained_betas=[[0.01 + 0.004 * i for i in range(T)]], prediction_type=["v_prediction", "sample", "flow_prediction"],
              timestep_spacing=["linspace", "leading", "trailing"], steps_offset=[1, 3], solver_order=[1, 3],
              algorithm_type=["dpmsolver++", "sde-dpmsolver++", "dpmsolver", "deis"], solver_type=["heun", "midpoint", "bh1", "logrho"],
              final_sigmas_type=["sigma_min", "zero"], lambda_min_clipped=[-1.0], variance_type=["fixed_large", "learned_range", "learned"],
              timestep_type=["continuous"], interpolation_type=["log_linear"], time_shift_type=["linear"], flow_shift=[3.0],
              dynamic_thresholding_ratio=[0.9], sample_max_value=[2.0], clip_sample_range=[2.0], sigma_min=[0.1], sigma_max=[3.0],
              shift_terminal=[0.1], noise_sampler_seed=[1], disable_corrector=[[0]], solver_p=[None])
# Files as older versions wrote them and hands write them.
EXTRA = dict(predict_epsilon=[True, False], tensor_format=["pt"], timestep_values=[None], snr_shift_scale=[3.0], shift=[3.0],
             rescale_betas_zero_snr=[True], set_alpha_to_one=[False, True], use_lu_lambdas=[True], an_unknown_key=[1, "x", True])


def walk(scheduler, start):
    scheduler.set_timesteps(STEPS)
    latents = start
    for timestep in scheduler.timesteps:
        latents = scheduler.step(stand_in(latents, float(timestep)), timestep, latents).prev_sample
    return scheduler.timesteps.to(torch.int64), latents


def write(repository, out):
    start = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(310))
    folder = out / "scheduler_files"
    folder.mkdir(parents=True, exist_ok=True)
    arrays, cases = dict(start=start), []

    def add(config, key):
        name = str(len(cases))
        (folder / f"{name}.json").write_text(json.dumps(config))
        case = dict(name=name, key=key, config=config, walks=[])
        for kind, target, fixed in (("ddim", diffusers.DDIMScheduler, dict(clip_sample=False) if key != "clip_sample" else {}),
                                    ("dpm", diffusers.DPMSolverMultistepScheduler, {})):
            if key in ("_class_name", "an_unknown_key", "predict_epsilon", "snr_shift_scale", "shift"):
                continue  # diffusers drops these without looking at them
            try:
                timesteps, latents = walk(target.from_config({**config, **fixed}), start)
            except Exception:
                continue
            if len(timesteps) != STEPS:
                continue
            case["walks"].append(kind)
            arrays[f"{name}.{kind}.timesteps"], arrays[f"{name}.{kind}"] = timesteps, latents.float()
        cases.append(case)

    for kind in KarrasDiffusionSchedulers:
        if kind.name in OTHER_KINDS or kind.name == "DPMSolverSDEScheduler":  # the second needs a package for its noise
            continue
        scheduler_class = getattr(diffusers, kind.name)
        parameters = inspect.signature(scheduler_class.__init__).parameters
        for index, base in enumerate(BASES):
            with tempfile.TemporaryDirectory() as saved:
                scheduler_class(**base).save_pretrained(saved)
                text = open(f"{saved}/scheduler_config.json").read()
            # The default of DDIM and DDPM is to clip, which is for pictures; Stable Diffusion's pipeline turns it off.
            config = {**json.loads(text), **(dict(clip_sample=False) if "clip_sample" in parameters else {})}
            add(config, "")
            add({key: value for key, value in config.items() if key not in ("timestep_spacing", "steps_offset", "set_alpha_to_one")}, "")
            if index == 2:
                continue
            for key, parameter in list(parameters.items())[1:]:
                values = [not config[key]] if isinstance(parameter.default, bool) else VALUES[key]
                for value in values:
                    if value != config[key]:
                        add({**config, key: value}, key)
            for key, values in EXTRA.items():
                for value in values if key not in parameters else []:
                    add({**config, key: value}, key)
    for name in [*OTHER_KINDS, "SchedulerOfNobody"]:
        add({**BASES[0], "_class_name": name}, "_class_name")
    save_file({key: value.contiguous() for key, value in arrays.items()}, out / "scheduler_files.safetensors")
    (out / "scheduler_files.json").write_text(json.dumps(cases))

"""A predicted variance: its value by diffusers' DDPMScheduler, and the bound that trains it with its gradients, by the equations
of arXiv 2102.09672 and 2006.11239 on torch.distributions (float64)."""

import torch
from diffusers import DDPMScheduler
from safetensors.torch import save_file

SCHEDULES = (("scaled", dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")),
             ("linear", dict(beta_start=0.0001, beta_end=0.02, beta_schedule="linear")))


def posterior(beta, x0, xt, t):
    """Mean and variance of q(x_{t-1} | x_t, x_0) as products of Gaussians: x_t | x_{t-1} and x_{t-1} | x_0."""
    alpha_bar = torch.cumprod(1 - beta, 0)
    before = alpha_bar[t - 1] if t > 0 else torch.ones((), dtype=torch.float64)
    if t == 0:
        return x0, None
    precision = (1 - beta[t]) / beta[t] + 1 / (1 - before)
    mean = (xt * (1 - beta[t]).sqrt() / beta[t] + x0 * before.sqrt() / (1 - before)) / precision
    return mean, 1 / precision


def bound(beta, x0, xt, predicted, output, t):
    """L_t in bits, averaged over the numbers of one row."""
    _, smallest = posterior(beta, x0, xt, max(t, 1))
    v = (output + 1) / 2
    deviation = torch.exp(0.5 * (v * beta[t].log() + (1 - v) * smallest.log()))
    mean, variance = posterior(beta, predicted, xt, t)
    p = torch.distributions.Normal(mean, deviation)
    if t > 0:
        q = torch.distributions.Normal(posterior(beta, x0, xt, t)[0], variance.sqrt())
        nats = torch.distributions.kl_divergence(q, p)
    else:
        below, above = p.cdf(x0 + 1 / 255), p.cdf(x0 - 1 / 255)
        within = torch.where(x0 < -0.999, below, torch.where(x0 > 0.999, 1 - above, below - above))
        nats = -within.clamp(min=1e-12).log()
    return nats.mean() / torch.log(torch.tensor(2.0, dtype=torch.float64))


def write(repository, out):
    generator = torch.Generator().manual_seed(700)
    draw = lambda: torch.randn(7, 4, 3, 3, generator=generator)
    x0, noise, said, output = 0.7 * draw(), draw(), draw(), 0.8 * draw()
    # t = 0 twice: near enough for every step of the grid to be likely, and with numbers at and beyond the grid's ends.
    timesteps = torch.tensor([0, 0, 1, 2, 400, 998, 999])
    x0[1, 0] = torch.tensor([[-1.0, 1.0, -1.4], [1.7, 0.9995, -0.9995], [0.0, 0.5, -0.5]])
    arrays = dict(x0=x0, output=output, timesteps=timesteps)
    for name, config in SCHEDULES:
        ddpm = DDPMScheduler(variance_type="learned_range", **config)
        xt = ddpm.add_noise(x0, noise, timesteps)
        alpha_bar = ddpm.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        guess = (xt - (1 - alpha_bar).sqrt() * (noise + 0.1 * said)) / alpha_bar.sqrt()
        # At t = 0 diffusers takes the logarithm of its guard against 0 where the paper's code takes t = 1's variance.
        arrays[f"{name}.log_variance"] = torch.stack(
            [ddpm._get_variance(int(t), predicted_variance=output[i]) for i, t in enumerate(timesteps) if t > 0])
        beta = ddpm.betas.double()
        leaf = output.double().requires_grad_()
        terms = torch.stack([bound(beta, x0[i].double(), xt[i].double(), guess[i].double(), leaf[i], int(t))
                             for i, t in enumerate(timesteps)])
        weights = torch.arange(1, 8, dtype=torch.float64)
        (terms * weights).sum().backward()
        arrays |= {f"{name}.xt": xt, f"{name}.guess": guess, f"{name}.terms": terms.detach(), f"{name}.gradient": leaf.grad}
    save_file({key: value.contiguous() for key, value in arrays.items()}, out / "learned_variance.safetensors")

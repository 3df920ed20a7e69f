"""Writes s4d_lrnnx.json: kernels and outputs of lrnnx's S4D (state-spaces/s4's, packaged), for s4d_test.cc to compare with.

    pip install --no-build-isolation lrnnx==1.0.0.post1 && python tests/worker/nn/s4d_lrnnx.py

Run once; it takes a C++ toolchain and torch to install, which is why the numbers and not the package are what the test needs.
"""

import importlib.util
import json
import pathlib
import sys
import types

import torch

# Its packages import CUDA and Triton code, which S4D has no use for: only the modules that S4D needs are imported.
root = pathlib.Path(importlib.util.find_spec("lrnnx").submodule_search_locations[0])
for package in ("lrnnx", "lrnnx.ops", "lrnnx.core", "lrnnx.models", "lrnnx.models.lti"):
    sys.modules[package] = types.ModuleType(package)
    sys.modules[package].__path__ = [str(root.joinpath(*package.split(".")[1:]))]
from lrnnx.models.lti.s4d import S4D
from lrnnx.ops.s4_utils import process_ssm_params

LENGTH, CHANNELS, STATES = 40, 3, 8


def case(discretisation, seed):
    torch.manual_seed(seed)
    module = S4D(CHANNELS, d_state=STATES, l_max=LENGTH, disc=discretisation, init="diag-lin", final_act=None, transposed=False,
                 verbose=False)
    with torch.no_grad():
        module.A_real.add_(0.3 * torch.randn_like(module.A_real))  # S4D-Lin's are all the same
    module = module.double()
    step, a, b, c, _ = process_ssm_params(module.A_real, module.A_imag, module.B, module.C, module.inv_dt,
                                          repeat_factor=module.repeat)
    step, a, c = step.reshape(CHANNELS, 1), a.reshape(CHANNELS, -1), (b * c).reshape(CHANNELS, -1)
    direct = module.D.detach()[0].unsqueeze(1)
    # In s4d.h's order.
    weight = torch.cat([step.log(), direct, (-a.real).log(), a.imag, c.real, c.imag], 1)
    u = torch.randn(1, LENGTH, CHANNELS, dtype=torch.float64)
    kernel, _ = module.layer.kernel(LENGTH)
    convolved, _ = module.layer(u)  # [1, 1, channels, length]
    y = convolved[:, 0].transpose(1, 2) + module.D[0] * u
    return dict(discretisation=discretisation, weight=weight.tolist(), kernel=kernel[0].tolist(), u=u[0].tolist(), y=y[0].tolist())


cases = [case("zoh", 1), case("bilinear", 2)]
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(cases) + "\n")

"""Writes distances.json: what torch-fidelity 0.4.0 and clip-mmd 0.0.2 (tests/requirements-fid.txt) give for the features in
metrics.json, in float64, and CMMD by its formula in numpy.

Run from the project's root: PYTHONPATH=.venv/fid .venv/bin/python tests/analysis/metrics/reference/make_distances.py
"""
import json
import os

import numpy as np
import torch

# torch-fidelity imports torchvision, of which nothing is used here: its compiled operators need another build of torch.
for name in ("nms", "qnms"):
    torch.library.define(f"torchvision::{name}", "(Tensor boxes, Tensor scores, float threshold) -> Tensor")

from clip_mmd.calculation import mmd, mmd_efficient  # noqa: E402
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric  # noqa: E402
from torch_fidelity.metric_kid import kid_features_to_metric  # noqa: E402

here = os.path.dirname(os.path.abspath(__file__))


def unit(x):  # clip-mmd's own features are of length 1: clip_mmd.logic.extractor
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def cmmd(x, y):  # arXiv 2401.09603: the V-statistic, sigma = 10, times 1000
    def mean(a, b):
        return np.exp(-((a[:, None, :] - b[None, :, :]) ** 2).sum(-1) / (2 * 10**2)).mean()
    return 1000 * (mean(x, x) + mean(y, y) - 2 * mean(x, y))


def distances(case):
    x, y = (np.array(case[key], dtype=np.float64).reshape(-1, case["cols"]) for key in ("generated", "reference"))
    least = min(len(x), len(y))
    a, b = torch.tensor(x), torch.tensor(y)
    fid = fid_statistics_to_metric(fid_features_to_statistics(a), fid_features_to_statistics(b), verbose=False)
    # One subset of all rows; torch-fidelity has the kernel distance of equally many alone.
    kid = kid_features_to_metric(a[:least], b[:least], kid_subsets=1, kid_subset_size=least, verbose=False)
    u, v = unit(x), unit(y)
    published = mmd(u, v).item()
    assert abs(published - cmmd(u, v)) < 1e-9 and abs(published - mmd_efficient(u, v, precision=torch.float64)) < 1e-9
    return dict(name=case["name"], torch_fidelity_fid=fid["frechet_inception_distance"],
                torch_fidelity_kid_of_first=kid["kernel_inception_distance_mean"], clip_mmd=published, cmmd=cmmd(u, v))


cases = [distances(case) for case in json.load(open(f"{here}/metrics.json"))]
with open(f"{here}/distances.json", "w") as file:
    json.dump(cases, file, indent=1)
    file.write("\n")
for case in cases:
    print(case)

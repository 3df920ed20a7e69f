"""Writes package_metrics.json: what the field's own packages give for the features in metrics.json.

pytorch-fid 0.3.0 (its Fréchet distance), torchmetrics 1.9.0 (FID, KID and cosines, with the identity as feature extractor) and
torch-fidelity 0.4.0 (precision and recall), on torch 2.13.0, scipy 1.17.1 and numpy 2.4.6. Run it with a Python that has these; all
three packages import torchvision, of which nothing is used here.
"""
import json
import os

import numpy as np
import torch
from pytorch_fid.fid_score import calculate_frechet_distance
from torch_fidelity.metric_prc import calculate_precision_recall_full
from torchmetrics.functional import pairwise_cosine_similarity
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

here = os.path.dirname(os.path.abspath(__file__))
SUBSETS, SUBSET_SIZE = 2000, 5


class Identity(torch.nn.Module):
    def __init__(self, features):
        super().__init__()
        self.num_features = features

    def forward(self, x):
        return x


def updated(metric, x, y):
    metric = metric.set_dtype(torch.float64)
    metric.update(y, real=True)
    metric.update(x, real=False)
    return metric.compute()


def packages(case):
    cols = case["cols"]
    x, y = (torch.tensor(case[key], dtype=torch.float64).view(-1, cols) for key in ("generated", "reference"))
    result = dict(name=case["name"])
    # With singular covariances pytorch-fid adds 1e-6 to their diagonals, or its square root is off by more than it says.
    if case["fid_sqrtm"] is not None:
        a, b = x.numpy(), y.numpy()
        result["pytorch_fid"] = float(calculate_frechet_distance(
            a.mean(0), np.cov(a, rowvar=False), b.mean(0), np.cov(b, rowvar=False)))
    result["torchmetrics_fid"] = updated(FrechetInceptionDistance(feature=Identity(cols)), x, y).item()
    if len(x) == len(y):  # one subset of everything
        whole = KernelInceptionDistance(feature=Identity(cols), subsets=1, subset_size=len(x))
        result["torchmetrics_kid"] = updated(whole, x, y)[0].item()
    torch.manual_seed(7)
    drawn = KernelInceptionDistance(feature=Identity(cols), subsets=SUBSETS, subset_size=SUBSET_SIZE)
    mean, sd = updated(drawn, x, y)
    result["torchmetrics_kid_subsets"] = dict(subsets=SUBSETS, subset_size=SUBSET_SIZE, mean=mean.item(), sd=sd.item())
    result["torch_fidelity_precision_recall"] = calculate_precision_recall_full(x, y, neighborhood=3)
    between, within = pairwise_cosine_similarity(x, y), pairwise_cosine_similarity(x, x, zero_diagonal=True)
    result["torchmetrics_cosine"] = dict(pairwise=between.mean().item(), nearest=between.max(1).values.mean().item(),
                                         within=(within.sum() / (len(x) * (len(x) - 1))).item())
    return result


cases = [packages(case) for case in json.load(open(f"{here}/metrics.json"))]
with open(f"{here}/package_metrics.json", "w") as file:
    json.dump(cases, file, indent=1)
    file.write("\n")
for case in cases:
    print(case)

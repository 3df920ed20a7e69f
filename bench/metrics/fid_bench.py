"""FID from features: Loupe against pytorch-fid's way (numpy.cov + scipy.linalg.sqrtm), side by side.

    python bench/metrics/fid_bench.py build/release/bin/fid_bench [REPETITIONS] [N:D ...]

Both sides read the same float32 features and use every core they find; the best of REPETITIONS runs counts for both. The
features' spectrum falls as Inception's does (condition about 1e6). Needs numpy and scipy >= 1.13.
"""
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
from scipy import linalg


def features(n, d, seed, shift):
    rng = np.random.default_rng(seed)
    spectrum = (np.arange(1, d + 1) ** -0.9).astype(np.float64)
    basis = np.linalg.qr(rng.normal(size=(d, d)))[0] if d <= 512 else np.eye(d)[rng.permutation(d)]
    mixed = (rng.normal(size=(n, d)) * spectrum) @ basis
    # Mix neighbours cheaply so that the covariance is dense at any d.
    for step in (1, 7, 31, 127):
        mixed = 0.8 * mixed + 0.6 * np.roll(mixed, step, axis=1)
    return (0.4 + shift + mixed).astype(np.float32)


def pytorch_fid(x, y):
    # calculate_activation_statistics and calculate_frechet_distance of pytorch-fid, written out from their formula.
    x, y = x.astype(np.float64), y.astype(np.float64)
    mu1, mu2 = x.mean(0), y.mean(0)
    s1, s2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    covmean = linalg.sqrtm(s1.dot(s2))
    if not np.isfinite(covmean).all():
        offset = np.eye(len(s1)) * 1e-6
        covmean = linalg.sqrtm((s1 + offset).dot(s2 + offset))
    diff = mu1 - mu2
    return float(diff.dot(diff) + np.trace(s1) + np.trace(s2) - 2 * np.trace(covmean).real)


def main():
    program = sys.argv[1]
    repetitions = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    sizes = [tuple(map(int, s.split(":"))) for s in sys.argv[3:]] or [(512, 2048), (10000, 2048)]
    print(f"{'n':>6} {'d':>5} {'scipy s':>9} {'loupe s':>9} {'times':>7} {'FID scipy':>14} {'FID loupe':>14}")
    for n, d in sizes:
        x, y = features(n, d, 1, 0.0), features(n, d, 2, 0.01)
        with tempfile.TemporaryDirectory() as folder:
            paths = [os.path.join(folder, name) for name in ("x.npy", "y.npy")]
            for path, matrix in zip(paths, (x, y)):
                np.save(path, matrix)
            ours = json.loads(subprocess.run([program, *paths, str(repetitions)], check=True, capture_output=True).stdout)
        best = float("inf")
        for _ in range(repetitions):
            begin = time.perf_counter()
            value = pytorch_fid(x, y)
            best = min(best, time.perf_counter() - begin)
        print(f"{n:6d} {d:5d} {best:9.3f} {ours['seconds']:9.3f} {best / ours['seconds']:7.1f} {value:14.8f} {ours['fid']:14.8f}",
              flush=True)


main()

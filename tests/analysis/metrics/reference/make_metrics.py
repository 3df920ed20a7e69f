"""Writes metrics.json: features and the scores that numpy/scipy give for them.

FID is written out as pytorch-fid does it (numpy.cov, scipy.linalg.sqrtm), and a second time through the eigenvalues of
S1·S2, which stays good where sqrtm meets a singular matrix; KID, precision and recall follow the papers' formulas by plain
loops over full distance matrices. Run with any Python that has numpy and scipy >= 1.13.
"""
import json
import numpy as np
from scipy import linalg

rng = np.random.default_rng(7)


def fid_by_sqrtm(x, y):
    s1, s2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = linalg.sqrtm(s1 @ s2)
    d = x.mean(0) - y.mean(0)
    return float(d @ d + np.trace(s1) + np.trace(s2) - 2 * np.trace(np.real(root)))


def fid_by_eigenvalues(x, y):
    # Tr (S1 S2)^1/2 = sum of square roots of the eigenvalues of the symmetric S1^1/2 S2 S1^1/2.
    s1, s2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    w, v = np.linalg.eigh(s1)
    half = (v * np.sqrt(np.maximum(w, 0))) @ v.T
    root = np.sqrt(np.maximum(np.linalg.eigvalsh(half @ s2 @ half), 0)).sum()
    d = x.mean(0) - y.mean(0)
    return float(d @ d + np.trace(s1) + np.trace(s2) - 2 * root)


def kid_whole(x, y):
    k = lambda a, b: (a @ b.T / a.shape[1] + 1) ** 3
    m, n = len(x), len(y)
    xx, yy = k(x, x), k(y, y)
    return float((xx.sum() - np.trace(xx)) / (m * (m - 1)) + (yy.sum() - np.trace(yy)) / (n * (n - 1))
                 - 2 * k(x, y).mean())


def distances(a, b):
    return np.sqrt(((a[:, None, :] - b[None, :, :]) ** 2).sum(-1))


def precision_recall(gen, ref, k):
    def share(query, centre):
        radius = np.sort(distances(centre, centre), axis=1)[:, k]  # column 0 is the row itself
        return float((distances(query, centre) <= radius[None, :]).any(1).mean())
    return [share(gen, ref), share(ref, gen)]


def cosines(x, y):
    u = x / np.linalg.norm(x, axis=1, keepdims=True)
    v = y / np.linalg.norm(y, axis=1, keepdims=True)
    return u @ v.T


def case(name, x, y, sqrtm=True):
    x, y = x.astype(np.float32), y.astype(np.float32)
    a, b = x.astype(np.float64), y.astype(np.float64)
    c, w = cosines(a, b), cosines(a, a)
    n = len(a)
    return dict(name=name, rows=[len(x), len(y)], cols=x.shape[1],
                generated=x.ravel().tolist(), reference=y.ravel().tolist(),
                fid=fid_by_eigenvalues(a, b), fid_sqrtm=fid_by_sqrtm(a, b) if sqrtm else None,
                kid=kid_whole(a, b), precision_recall=precision_recall(a, b, 3),
                pairwise=float(c.mean()), nearest=float(c.max(1).mean()),
                within=float((w.sum() - np.trace(w)) / (n * (n - 1))))


mix = rng.normal(size=(12, 12)) * 0.4
cases = [
    case("more samples than dimensions", rng.normal(size=(60, 12)) @ mix, rng.normal(0.3, 1.2, size=(45, 12))),
    case("fewer samples than dimensions", rng.normal(size=(9, 24)), rng.normal(0.2, 1, size=(13, 24)), sqrtm=False),
    case("few generated, many reference", rng.normal(size=(6, 10)), rng.normal(1, 2, size=(70, 10)), sqrtm=False),
]
# Two columns equal and one constant: both covariances are singular though there are samples enough.
x, y = rng.normal(size=(50, 8)), rng.normal(0.5, 1, size=(40, 8))
for m in (x, y):
    m[:, 3] = m[:, 1]
    m[:, 6] = 0.25
cases.append(case("singular covariance", x, y, sqrtm=False))
# A far common offset, as un-normalised features have.
cases.append(case("far from the origin", rng.normal(100, 1, size=(40, 6)), rng.normal(100.5, 1, size=(40, 6))))
x = rng.normal(size=(20, 5))
cases.append(case("the same set twice", x, x.copy()))
json.dump(cases, open(__file__.replace("make_metrics.py", "metrics.json"), "w"), separators=(",", ":"))
for c in cases:
    print({k: v for k, v in c.items() if k not in ("generated", "reference")})

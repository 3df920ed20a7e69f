"""Reference numbers of the Anderson-Darling test: python anderson_darling.py > anderson_darling.json (statsmodels)."""
import json

import numpy as np
from statsmodels.stats.diagnostic import normal_ad

samples = [
    np.arange(12.0) ** 1.5,
    np.exp(np.linspace(-1, 2, 40)),
    np.sinh(np.linspace(-1.2, 1.2, 25)),
    np.linspace(0, 1, 60),
    np.array([1.0, 1.1, 0.9, 1.3, 0.7, 1.05, 0.95, 1.2, 0.85, 1.0, 1.4]),
    np.concatenate([np.linspace(0, 1, 20), [9.0]]),
]
print(json.dumps([dict(values=list(map(float, s)), a2=float(normal_ad(s)[0]), p=float(normal_ad(s)[1])) for s in samples]))

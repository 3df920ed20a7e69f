"""Reference numbers of the studentized range: python studentized_range.py > studentized_range.json (scipy's own integration)."""
import itertools
import json

from scipy.stats import studentized_range

tail = [
    dict(q=q, k=k, df=df, upper=float(studentized_range.sf(q, k, df)))
    for q, k, df in itertools.product([0.5, 2, 3.5, 6, 12], [2, 3, 10, 40, 320], [1, 2, 5, 20, 120, 1e4])
]
quantile = [
    dict(p=p, k=k, df=df, q=float(studentized_range.ppf(p, k, df)))
    for p, k, df in itertools.product([0.5, 0.95, 0.99], [2, 3, 40], [2, 5, 20, 120])
]
print(json.dumps(dict(tail=tail, quantile=quantile), indent=0))

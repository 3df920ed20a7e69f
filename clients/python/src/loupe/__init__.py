"""Loupe's client: submit sweeps, wait for them, and have their trials, curves, F tables and reports as Python values.

    import loupe

    client = loupe.Client()
    sweep = client.submit({"name": "first-look", "base": "configs/bases/emoji-sd", …})
    client.wait(sweep)
    client.anova(sweep)
"""

from loupe.client import AsyncClient, Client
from loupe.errors import (AccessError, AlreadyExistsError, ConflictError, DamagedDataError, DeadlineError, InvalidRequestError, LimitError,
                          LoupeError, MissingPackageError, NotFoundError, StateError, TrialsWithoutResultError, UnavailableError, Violation)
from loupe.model import Anova, AnovaTerm, Artifact, Counts, HeatMap, LogLine, Plan, Progress, Report, Running, Sweep, Trial, Worker

__all__ = [
    "AccessError", "AlreadyExistsError", "Anova", "AnovaTerm", "Artifact", "AsyncClient", "Client", "ConflictError", "Counts",
    "DamagedDataError", "DeadlineError", "HeatMap", "InvalidRequestError", "LimitError", "LogLine", "LoupeError", "MissingPackageError",
    "NotFoundError", "Plan", "Progress", "Report", "Running", "StateError", "Sweep", "Trial", "TrialsWithoutResultError",
    "UnavailableError", "Violation", "Worker",
]

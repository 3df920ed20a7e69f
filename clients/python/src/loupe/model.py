"""What the coordinator answers, as plain values. In a notebook they show themselves as tables."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import io
import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from loupe import display
from loupe.errors import InvalidRequestError
from loupe.frames import Frame, Row, optional, replacing, to_frame
from loupe.v1 import analysis_pb2, sweep_pb2, trial_pb2, worker_pb2

_ENDED = ("COMPLETED", "STOPPED", "CANCELLED")
# As the reports decide it (docs/report.md).
_SMALLER_IS_BETTER = ("fid", "kid", "loss", "pres", "mse", "distance", "error", "duration", "seconds")


def smaller_is_better(score: str) -> bool:
    return any(part in score for part in _SMALLER_IS_BETTER)


def last_part(name: str) -> str:
    """"sweeps/quickstart/trials/7" -> "7"."""
    return name.rpartition("/")[2]


def _time(present: bool, value: Timestamp) -> datetime.datetime | None:
    return value.ToDatetime(tzinfo=datetime.timezone.utc) if present else None


@dataclasses.dataclass(frozen=True)
class Counts:
    """Of trials."""

    total: int
    queued: int
    running: int
    succeeded: int
    failed: int
    cancelled: int
    quarantined: int

    @property
    def ended(self) -> int:
        return self.succeeded + self.failed + self.cancelled + self.quarantined


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A sweep as it was when the coordinator answered. Where a method asks for a sweep it takes this or the name."""

    name: str
    title: str
    state: str
    state_reason: str
    counts: Counts
    cells: int
    replicates: int
    factors: dict[str, list[str]]
    primary_score: str
    waiting: list[str]
    seconds_left: float | None
    created: datetime.datetime | None
    updated: datetime.datetime | None
    ended_at: datetime.datetime | None
    etag: str
    spec: sweep_pb2.SweepSpec = dataclasses.field(repr=False, compare=False)

    @property
    def ended(self) -> bool:
        """COMPLETED, STOPPED or CANCELLED: no trial of it runs any more."""
        return self.state in _ENDED

    @staticmethod
    def of(proto: sweep_pb2.Sweep) -> Sweep:
        spec = proto.spec
        return Sweep(
            name=last_part(proto.name), title=spec.display_name, state=sweep_pb2.Sweep.State.Name(proto.state),
            state_reason=proto.state_reason,
            counts=Counts(**{field.name: getattr(proto.counts, field.name) for field in dataclasses.fields(Counts)}),
            cells=proto.cell_count, replicates=spec.replicates or 1, factors=_factors(spec),
            primary_score=spec.settings.get("score.primary") or spec.defaults.values.get("score.primary") or "clip_i",
            waiting=[f"{one.trials} trials wait: {one.reason}" for one in proto.waiting],
            seconds_left=proto.estimated_time_left.ToNanoseconds() / 1e9 if proto.HasField("estimated_time_left") else None,
            created=_time(proto.HasField("create_time"), proto.create_time),
            updated=_time(proto.HasField("update_time"), proto.update_time),
            ended_at=_time(proto.HasField("end_time"), proto.end_time), etag=proto.etag, spec=spec)

    def _repr_html_(self) -> str:
        counts = self.counts
        return display.card(
            f"{self.name}: {self.state.lower()}", self.state_reason or self.title,
            display.bar([("succeeded", counts.succeeded), ("failed", counts.failed + counts.quarantined), ("running", counts.running),
                         ("cancelled", counts.cancelled), ("queued", counts.queued)]),
            [f"{factor}: {', '.join(levels)}" for factor, levels in self.factors.items()] + self.waiting)


def _factors(spec: sweep_pb2.SweepSpec) -> dict[str, list[str]]:
    """By the last part of the key, or the whole key where two share it. Trials' cells have the exact names."""
    factors = list(spec.factors) + [factor for method in spec.methods for factor in method.factors]
    keys = {factor.key for factor in factors}
    short = [key.rpartition(".")[2] for key in keys]
    named: dict[str, list[str]] = {}
    if spec.methods:
        named["method"] = [method.label or method.settings.get("method.kind", "") for method in spec.methods]
    for factor in factors:
        part = factor.key.rpartition(".")[2]
        levels = named.setdefault(part if short.count(part) == 1 else factor.key, [])
        levels += [level for level in factor.levels if level not in levels]
    return named


@dataclasses.dataclass(frozen=True)
class Trial:
    """One cell at one replicate."""

    index: int
    sweep: str
    state: str
    cell: dict[str, str]
    cell_index: int
    replicate: int
    scores: dict[str, float]
    attempts: int
    worker_losses: int
    worker: str
    started: datetime.datetime | None
    ended: datetime.datetime | None
    failure_class: str
    failure: str

    @staticmethod
    def of(proto: trial_pb2.Trial) -> Trial:
        parts = proto.name.split("/")
        failed = proto.HasField("last_failure")
        return Trial(
            index=int(parts[3]), sweep=parts[1], state=trial_pb2.Trial.State.Name(proto.state), cell=dict(sorted(proto.cell.items())),
            cell_index=proto.cell_index, replicate=proto.replicate, scores=dict(sorted(proto.scores.items())), attempts=proto.attempts,
            worker_losses=proto.worker_losses, worker=last_part(proto.worker),
            started=_time(proto.HasField("start_time"), proto.start_time), ended=_time(proto.HasField("end_time"), proto.end_time),
            failure_class=trial_pb2.Failure.Class.Name(getattr(proto.last_failure, "class")) if failed else "",
            failure=proto.last_failure.message if failed else "")


_TRIAL_COLUMNS = ("trial", "cell", "replicate", "state")
_TRIAL_ENDS = ("attempts", "worker_losses", "worker", "started", "ended", "failure_class", "failure")


def trial_table(trials: Sequence[Trial], factors: Iterable[str] = ()) -> tuple[list[Row], list[str]]:
    """A row per trial: what it is, a column per factor and per score, and how it went. A factor or score that is called as another
    column is gets "factor." or "score." in front."""
    own = {*_TRIAL_COLUMNS, *_TRIAL_ENDS}
    names = list(dict.fromkeys([*factors, *(name for trial in trials for name in trial.cell)]))
    factor_columns = {name: f"factor.{name}" if name in own else name for name in names}
    scores = sorted({name for trial in trials for name in trial.scores})
    taken = own | set(factor_columns.values())
    score_columns = {name: f"score.{name}" if name in taken else name for name in scores}
    rows: list[Row] = []
    for trial in trials:
        row: Row = {"trial": trial.index, "cell": trial.cell_index, "replicate": trial.replicate, "state": trial.state}
        row |= {column: trial.cell.get(name) for name, column in factor_columns.items()}
        row |= {column: trial.scores.get(name) for name, column in score_columns.items()}
        row |= {"attempts": trial.attempts, "worker_losses": trial.worker_losses, "worker": trial.worker or None,
                "started": trial.started, "ended": trial.ended, "failure_class": trial.failure_class or None,
                "failure": trial.failure or None}
        rows.append(row)
    return rows, [*_TRIAL_COLUMNS, *factor_columns.values(), *score_columns.values(), *_TRIAL_ENDS]


@dataclasses.dataclass(frozen=True)
class PlanTerm:
    term: str
    levels: int
    df: int
    aliased_df: int
    note: str


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a specification would run: the dry run."""

    cells: int
    trials: int
    residual_df: int
    terms: list[PlanTerm]
    notes: list[str]
    waiting: list[str]
    spec: sweep_pb2.SweepSpec = dataclasses.field(repr=False, compare=False)

    @staticmethod
    def of(proto: sweep_pb2.CreateSweepResponse) -> Plan:
        plan = proto.plan
        return Plan(plan.cells, plan.trials, plan.residual_df,
                    [PlanTerm(one.term, one.levels, one.df, one.aliased_df, one.note) for one in plan.terms], list(plan.notes),
                    [f"{one.trials} trials would wait: {one.reason}" for one in plan.waiting], proto.spec)

    def _repr_html_(self) -> str:
        rows = [[term.term, term.levels, term.df, term.aliased_df, term.note] for term in self.terms]
        return display.card(f"{self.cells} cells, {self.trials} trials", "nothing was submitted",
                            display.table(["term", "levels", "df", "aliased df", "note"], [*rows, ["residual", "", self.residual_df, "", ""]]),
                            self.notes + self.waiting)


@dataclasses.dataclass(frozen=True)
class AnovaTerm:
    """NaN where a value does not exist."""

    term: str
    df: float
    sum_sq: float
    mean_sq: float
    f: float
    p: float
    estimable: bool
    note: str

    @staticmethod
    def of(proto: analysis_pb2.AnovaTerm) -> AnovaTerm:
        return AnovaTerm(proto.term, proto.df, proto.sum_sq, proto.mean_sq, proto.f, proto.p, proto.estimable, proto.note)


@dataclasses.dataclass(frozen=True)
class Anova:
    """The F table of one response, and beside it the one-way F of each factor."""

    response: str
    ss_type: int
    observations: int
    terms: list[AnovaTerm]
    residual: AnovaTerm
    one_way: list[AnovaTerm]
    notes: list[str]
    data_hash: str

    @staticmethod
    def of(proto: analysis_pb2.GetAnovaResponse) -> Anova:
        return Anova(proto.response, proto.ss_type, proto.observations, [AnovaTerm.of(one) for one in proto.terms],
                     AnovaTerm.of(proto.residual), [AnovaTerm.of(one) for one in proto.one_way], list(proto.notes), proto.data_hash)

    def __getitem__(self, term: str) -> AnovaTerm:
        for one in self.terms:
            if one.term == term:
                return one
        raise KeyError(f"{term}: the table has {', '.join(one.term for one in self.terms)}")

    def frame(self, frame: Frame = "pandas") -> Any:
        nan = float("nan")
        residual = dataclasses.replace(self.residual, term="residual", f=nan, p=nan)
        return to_frame([dataclasses.asdict(one) for one in (*self.terms, residual)], frame,
                        [field.name for field in dataclasses.fields(AnovaTerm)])

    def _repr_html_(self) -> str:
        rows = [[one.term, display.number(one.df), *([display.number(one.sum_sq), display.number(one.mean_sq), display.number(one.f),
                                                     display.p_value(one.p)] if one.estimable else ["", "", "", "not estimable"]), one.note]
                for one in self.terms]
        rows.append(["residual", display.number(self.residual.df), display.number(self.residual.sum_sq),
                     display.number(self.residual.mean_sq), "", "", ""])
        return display.card(f"ANOVA of {self.response}", f"{self.observations} trials, sums of squares of type {self.ss_type}",
                            display.table(["term", "df", "sum sq", "mean sq", "F", "p", ""], rows), self.notes)


@dataclasses.dataclass(frozen=True)
class HeatMap:
    """Mean response by two factors, over all trials with a result."""

    response: str
    rows: str
    columns: str
    row_levels: list[str]
    column_levels: list[str]
    mean: dict[tuple[str, str], float]
    n: dict[tuple[str, str], int]

    @staticmethod
    def of(trials: Sequence[Trial], levels: Mapping[str, Sequence[str]], rows: str, columns: str, response: str) -> HeatMap:
        known = list(dict.fromkeys([*levels, *(name for trial in trials for name in trial.cell)]))
        for factor in (rows, columns):
            if factor not in known:
                raise InvalidRequestError(f"the sweep has no factor '{factor}'", hint=f"Its factors: {', '.join(known)}.")
        values: dict[tuple[str, str], list[float]] = {}
        for trial in trials:
            if trial.state == "SUCCEEDED" and response in trial.scores and rows in trial.cell and columns in trial.cell:
                values.setdefault((trial.cell[rows], trial.cell[columns]), []).append(trial.scores[response])

        def order(factor: str, at: int) -> list[str]:
            seen = dict.fromkeys(trial.cell[factor] for trial in trials if factor in trial.cell)
            return [level for level in levels.get(factor, ()) if level in seen] + [one for one in seen if one not in levels.get(factor, ())]

        return HeatMap(response, rows, columns, order(rows, 0), order(columns, 1),
                       {pair: sum(found) / len(found) for pair, found in values.items()},
                       {pair: len(found) for pair, found in values.items()})

    def frame(self, frame: Frame = "pandas") -> Any:
        return to_frame([{self.rows: row, self.columns: column, "mean": self.mean.get((row, column)), "n": self.n.get((row, column), 0)}
                         for row in self.row_levels for column in self.column_levels], frame,
                        [self.rows, self.columns, "mean", "n"])

    def _repr_html_(self) -> str:
        return display.card(f"{self.response} by {self.rows} and {self.columns}",
                            f"means over {sum(self.n.values())} trials; {'smaller' if smaller_is_better(self.response) else 'larger'} is better",
                            display.heat_map(self.rows, self.columns, self.row_levels, self.column_levels, self.mean, self.n,
                                             smaller_is_better(self.response)), [])


@dataclasses.dataclass(frozen=True)
class Report:
    """A report as the coordinator rendered it: `format` is text, json, csv or html."""

    format: str
    content: bytes = dataclasses.field(repr=False)

    @property
    def text(self) -> str:
        return self.content.decode()

    def json(self) -> Any:
        """The numbers, as docs/report.schema.json describes them."""
        if self.format != "json":
            raise InvalidRequestError(f"this report is {self.format}: ask for format='json'")
        return json.loads(self.content)

    def frame(self, frame: Frame = "pandas") -> Any:
        """A CSV report as a data frame."""
        if self.format != "csv":
            raise InvalidRequestError(f"this report is {self.format}: ask for format='csv'")
        if frame != "pandas":
            lines = list(csv.DictReader(io.StringIO(self.text)))
            return to_frame([dict(line) for line in lines], frame)
        return optional("pandas", "pandas", "a data frame").read_csv(io.BytesIO(self.content))

    def save(self, path: str | os.PathLike[str]) -> pathlib.Path:
        target = pathlib.Path(path)
        with replacing(target) as file:
            file.write(self.content)
        return target

    def _repr_html_(self) -> str:
        return display.page(self.text) if self.format == "html" else display.preformatted(self.text)


@dataclasses.dataclass(frozen=True)
class Artifact:
    name: str
    media_type: str
    size_bytes: int
    sha256: str

    @staticmethod
    def of(proto: trial_pb2.Artifact) -> Artifact:
        return Artifact(proto.name, proto.media_type, proto.size_bytes, proto.sha256)


@dataclasses.dataclass(frozen=True)
class LogLine:
    """A line that a worker logged of an attempt."""

    attempt: int
    sequence: int
    """From 1; numbers that are missing are lines that were dropped."""
    time: datetime.datetime
    """By the worker's clock."""
    level: str
    """"info", "warning" or "error"."""
    text: str

    @staticmethod
    def of(attempt: int, proto: trial_pb2.LogLine) -> LogLine:
        level = trial_pb2.LogLine.Level.Name(proto.level).lower() if proto.level in trial_pb2.LogLine.Level.values() else "info"
        return LogLine(attempt, proto.sequence, proto.time.ToDatetime(tzinfo=datetime.timezone.utc), level, proto.text)

    def __str__(self) -> str:
        return f"{self.time:%Y-%m-%d %H:%M:%S}  {'' if self.level == 'info' else self.level + ': '}{self.text}"


@dataclasses.dataclass(frozen=True)
class Running:
    """An attempt that runs now."""

    trial: int
    worker: str
    cell: dict[str, str]
    replicate: int
    phase: str
    step: int
    total_steps: int
    metrics: dict[str, float]
    seconds: float
    pack: int
    """How many trials its worker trains together with it, itself included; 0 where the worker does not say."""

    @staticmethod
    def of(proto: sweep_pb2.RunningAttempt) -> Running:
        return Running(int(last_part(proto.trial)), last_part(proto.worker), dict(sorted(proto.cell.items())), proto.replicate, proto.phase,
                       proto.step, proto.total_steps, dict(sorted(proto.metrics.items())), proto.elapsed.ToNanoseconds() / 1e9, proto.pack)


@dataclasses.dataclass(frozen=True)
class Progress:
    """What `watch` yields."""

    sweep: Sweep
    running: list[Running]


@dataclasses.dataclass(frozen=True)
class Worker:
    name: str
    state: str
    hostname: str
    device: str
    version: str
    slots: int
    running: list[str]
    seconds_since_last_sync: float
    trials_succeeded: int
    trials_failed: int

    @staticmethod
    def of(proto: worker_pb2.Worker) -> Worker:
        about = proto.description
        return Worker(last_part(proto.name), worker_pb2.Worker.State.Name(proto.state), about.hostname, about.device, about.version,
                      proto.slots, list(proto.running), proto.since_last_sync.ToNanoseconds() / 1e9, proto.trials_succeeded,
                      proto.trials_failed)

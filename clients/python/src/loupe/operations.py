"""What can be asked of a coordinator, each once: `Client` and `AsyncClient` are this with a blocking or an asynchronous transport."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import time
import uuid
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping
from typing import Any

from loupe import transport as rpc
from loupe.errors import (AlreadyExistsError, DamagedDataError, DeadlineError, InvalidRequestError, StateError, TrialsWithoutResultError,
                          UnavailableError)
from loupe.frames import Frame, Row, check_ending, optional, replacing, to_frame, write_rows
from loupe.model import Anova, Artifact, HeatMap, LogLine, Plan, Progress, Report, Running, Sweep, Trial, Worker, last_part, trial_table
from loupe.specification import Spec, pointed_out, same_design, sweep_file
from loupe.v1 import analysis_pb2, sweep_pb2, trial_pb2, worker_pb2

SweepName = str | Sweep
_METRIC_COLUMNS = ("trial", "metric", "step", "value")
_TABLES = ("trials", "metrics")


def _id(sweep: SweepName) -> str:
    return sweep.name if isinstance(sweep, Sweep) else last_part(sweep)


def _name(sweep: SweepName) -> str:
    return f"sweeps/{_id(sweep)}"


def _trial(sweep: SweepName, index: int) -> str:
    return f"{_name(sweep)}/trials/{index}"


@dataclasses.dataclass(frozen=True)
class Point:
    metric: str
    step: int
    value: float


@dataclasses.dataclass(frozen=True)
class SweepData:
    """A whole sweep: what an export needs."""

    sweep: Sweep
    trials: list[Trial]
    points: dict[int, list[Point]]


class ProgressBar:
    """tqdm's, over trials; nothing where it is not wanted."""

    def __init__(self, wanted: bool | None) -> None:
        self._tqdm: Any = None
        self._bar: Any = None
        if wanted:
            self._tqdm = optional("tqdm.auto", "progress", "a progress bar").tqdm
        elif wanted is None:
            try:
                from tqdm.auto import tqdm
            except ImportError:
                return
            self._tqdm = tqdm

    def show(self, sweep: Sweep, running: int) -> None:
        if self._tqdm is None:
            return
        if self._bar is None:
            self._bar = self._tqdm(total=sweep.counts.total, desc=sweep.name, unit="trial", initial=sweep.counts.ended)
        self._bar.total = sweep.counts.total
        self._bar.n = sweep.counts.ended
        lost = sweep.counts.failed + sweep.counts.quarantined
        words = [f"{running} running"] * bool(running) + [f"{lost} failed"] * bool(lost) + [sweep.state.lower()] * (sweep.state != "ACTIVE")
        self._bar.set_postfix_str(", ".join([*words, *sweep.waiting[:1]]), refresh=False)
        self._bar.refresh()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class Operations:
    def __init__(self, transport: rpc.Transport) -> None:
        self.transport = transport

    async def _pages(self, method: rpc.Method[rpc.Request, rpc.Response], request: rpc.Request) -> AsyncGenerator[rpc.Response, None]:
        """Of a list, to its end; `request` asks for the first."""
        asked: Any = request
        while True:
            page: Any = await self.transport.unary(method, request)
            yield page
            if not page.next_page_token:
                return
            asked.page_token = page.next_page_token

    # Sweeps

    async def _create(self, file: sweep_pb2.SweepFile, name: str, dry_run: bool) -> sweep_pb2.CreateSweepResponse:
        request = sweep_pb2.CreateSweepRequest(sweep_id=name, request_id=str(uuid.uuid4()), validate_only=dry_run, file=file)
        try:
            return await self.transport.unary(rpc.CREATE_SWEEP, request)
        except InvalidRequestError as error:
            if any(violation.field.startswith("spec.settings") for violation in error.violations):
                raise InvalidRequestError("the coordinator is older than this client: it reads no sweep files", code="UNIMPLEMENTED",
                                          hint="Bring it up to date, or submit with the 'loupe' command that came with it.") from error
            raise pointed_out(error, file) from error

    async def plan(self, spec: Spec, relative_to: str | os.PathLike[str] | None) -> Plan:
        return Plan.of(await self._create(sweep_file(spec, relative_to), "", dry_run=True))

    async def submit(self, spec: Spec, name: str, exist_ok: bool, relative_to: str | os.PathLike[str] | None) -> Sweep:
        file = sweep_file(spec, relative_to)
        try:
            created = await self._create(file, name, dry_run=False)
            return Sweep.of(created.sweep)
        except AlreadyExistsError as error:
            planned = await self._create(file, name, dry_run=True)
            there = await self.sweep(name or planned.sweep_id)
            same = same_design(planned.spec, there.spec)
            if same and exist_ok:
                return there
            hint = ("It is the same design: submit(…, exist_ok=True) goes on with it." if same else
                    "It is another design: give this one another name (name=…), or delete that one.")
            raise AlreadyExistsError(f"there is a sweep '{there.name}' already", hint=hint, code=error.code) from error

    async def sweeps(self) -> list[Sweep]:
        pages = self._pages(rpc.LIST_SWEEPS, sweep_pb2.ListSweepsRequest(page_size=1000))
        return [Sweep.of(sweep) async for page in pages for sweep in page.sweeps]

    async def sweep(self, sweep: SweepName) -> Sweep:
        return Sweep.of(await self.transport.unary(rpc.GET_SWEEP, sweep_pb2.GetSweepRequest(name=_name(sweep))))

    async def verb(self, method: rpc.Method[sweep_pb2.SweepVerbRequest, sweep_pb2.Sweep], sweep: SweepName) -> Sweep:
        return Sweep.of(await self.transport.unary(
            method, sweep_pb2.SweepVerbRequest(name=_name(sweep), request_id=str(uuid.uuid4()))))

    async def retry(self, sweep: SweepName, failed: bool, quarantined: bool, cancelled: bool, cell: Mapping[str, str]) -> int:
        answer = await self.transport.unary(rpc.RETRY_TRIALS, sweep_pb2.RetryTrialsRequest(
            name=_name(sweep), failed=failed, quarantined=quarantined, cancelled=cancelled, cell=dict(cell), request_id=str(uuid.uuid4())))
        return answer.retried

    async def delete(self, sweep: SweepName, force: bool) -> None:
        await self.transport.unary(rpc.DELETE_SWEEP, sweep_pb2.DeleteSweepRequest(name=_name(sweep), force=force))

    async def watch(self, sweep: SweepName, patience: float, deadline: float | None = None) -> AsyncGenerator[Progress, None]:
        """Until the sweep has ended. A coordinator that goes away for a while (a restart) is waited for."""
        heard, pause = time.monotonic(), 0.1
        while True:
            left = None if deadline is None else max(deadline - time.monotonic(), 0.001)
            try:
                stream = self.transport.stream(rpc.WATCH_SWEEP, sweep_pb2.WatchSweepRequest(name=_name(sweep)), left)
                async with contextlib.aclosing(stream) as messages:
                    async for message in messages:
                        heard, pause = time.monotonic(), 0.1
                        progress = Progress(Sweep.of(message.sweep), [Running.of(one) for one in message.running])
                        yield progress
                        if progress.sweep.ended:
                            return
            except UnavailableError:
                if time.monotonic() - heard > patience:
                    raise
            if deadline is not None and time.monotonic() >= deadline:
                raise DeadlineError(f"the sweep '{_id(sweep)}' has not ended yet", hint="It goes on; wait again, or look at it with watch().")
            await self.transport.sleep(pause)
            pause = min(2 * pause, 3.0)

    async def wait(self, sweep: SweepName, progress: bool | None, timeout: float | None, patience: float, check: bool) -> Sweep:
        bar = ProgressBar(progress)
        deadline = None if timeout is None else time.monotonic() + timeout
        seen: Sweep | None = None
        try:
            async with contextlib.aclosing(self.watch(sweep, patience, deadline)) as messages:
                async for one in messages:
                    seen = one.sweep
                    bar.show(seen, len(one.running))
        except DeadlineError as error:
            how_far = "" if seen is None else f": {seen.state.lower()}, {seen.counts.ended} of {seen.counts.total} trials have ended"
            raise DeadlineError(f"the sweep '{_id(sweep)}' has not ended within {timeout:g} s{how_far}",
                                hint="\n".join([*(seen.waiting if seen else ()), "It goes on; wait again, or look at it with watch()."])) from error
        finally:
            bar.close()
        ended = await self.sweep(sweep)
        without = ended.counts.total - ended.counts.succeeded
        if check and without:
            raise TrialsWithoutResultError(
                f"the sweep '{ended.name}' has ended ({ended.state.lower()}), and {without} of its {ended.counts.total} trials have no result",
                ended, hint="trials(…) has the reason of each under 'failure'; retry(…) queues them again; check=False takes it as it is.")
        return ended

    # Trials

    async def trial_list(self, sweep: SweepName, states: Iterable[str] = ()) -> list[Trial]:
        request = trial_pb2.ListTrialsRequest(parent=_name(sweep), page_size=1000)
        for state in states:
            if state.upper() not in trial_pb2.Trial.State.keys():
                raise InvalidRequestError(f"there is no trial state '{state}'", hint=f"States: {', '.join(trial_pb2.Trial.State.keys()[1:])}.")
            request.states.append(getattr(trial_pb2.Trial, state.upper()))
        return [Trial.of(trial) async for page in self._pages(rpc.LIST_TRIALS, request) for trial in page.trials]

    async def trial(self, sweep: SweepName, index: int) -> Trial:
        return Trial.of(await self.transport.unary(rpc.GET_TRIAL, trial_pb2.GetTrialRequest(name=_trial(sweep, index))))

    async def trials(self, sweep: SweepName, states: Iterable[str], frame: Frame) -> Any:
        to_frame([], frame, [])  # what cannot be made is said before anything is asked for
        rows, columns = trial_table(await self.trial_list(sweep, states), (await self.sweep(sweep)).factors)
        return to_frame(rows, frame, columns)

    async def points(self, sweep: SweepName, index: int, metric: str = "") -> list[Point]:
        request = trial_pb2.ListMetricPointsRequest(parent=_trial(sweep, index), page_size=10000, metric=metric)
        pages = self._pages(rpc.LIST_METRIC_POINTS, request)
        return [Point(point.metric, point.step, point.value) async for page in pages for point in page.points]

    async def logs(self, sweep: SweepName, index: int, attempt: int, tail: int) -> list[LogLine]:
        request = trial_pb2.ListTrialLogsRequest(parent=_trial(sweep, index), epoch=attempt, tail=tail, page_size=2000)
        lines: list[LogLine] = []
        while True:
            page = await self.transport.unary(rpc.LIST_TRIAL_LOGS, request)
            lines += [LogLine.of(page.epoch, line) for line in page.lines]
            if not page.more:
                return lines
            # Of the attempt that the first page had, whatever begins meanwhile.
            request = trial_pb2.ListTrialLogsRequest(parent=request.parent, epoch=page.epoch, after=lines[-1].sequence, page_size=2000)

    async def metric_rows(self, sweep: SweepName, trials: int | Collection[int] | None, metric: str) -> list[Row]:
        if trials is None:
            trials = [trial.index for trial in await self.trial_list(sweep) if trial.attempts]
        elif isinstance(trials, int):
            trials = [trials]
        rows: list[Row] = []
        for index in trials:
            rows += [{"trial": index, "metric": point.metric, "step": point.step, "value": point.value}
                     for point in await self.points(sweep, index, metric)]
        return rows

    async def metrics(self, sweep: SweepName, trials: int | Collection[int] | None, metric: str, frame: Frame) -> Any:
        to_frame([], frame, [])
        return to_frame(await self.metric_rows(sweep, trials, metric), frame, _METRIC_COLUMNS)

    async def data(self, sweep: SweepName) -> SweepData:
        """For an export of a finished sweep: StateError while it has not ended."""
        found = await self.sweep(sweep)
        if not found.ended:
            raise StateError(f"the sweep '{found.name}' is {found.state.lower()}: only one that has ended is exported there",
                             hint="wait(…) for it first. trials(…) and export(…) also work on one that runs.")
        trials = await self.trial_list(sweep)
        return SweepData(found, trials, {trial.index: await self.points(sweep, trial.index) for trial in trials if trial.attempts})

    async def export(self, sweep: SweepName, path: str | os.PathLike[str], table: str) -> pathlib.Path:
        target = pathlib.Path(path)
        check_ending(target)
        if table not in _TABLES:
            raise InvalidRequestError(f"there is no table '{table}': {' or '.join(_TABLES)}")
        if table == "metrics":
            return write_rows(await self.metric_rows(sweep, None, ""), _METRIC_COLUMNS, target)
        rows, columns = trial_table(await self.trial_list(sweep), (await self.sweep(sweep)).factors)
        return write_rows(rows, columns, target)

    # Analysis

    async def anova(self, sweep: SweepName, response: str, terms: str, ss: int) -> Anova:
        return Anova.of(await self.transport.unary(
            rpc.GET_ANOVA, analysis_pb2.GetAnovaRequest(name=_name(sweep), response=response, terms=terms, ss_type=ss)))

    async def heat_map(self, sweep: SweepName, rows: str, columns: str, response: str) -> HeatMap:
        found = await self.sweep(sweep)
        return HeatMap.of(await self.trial_list(sweep), found.factors, rows, columns, response or found.primary_score)

    async def report(self, request: analysis_pb2.RenderReportRequest) -> Report:
        chunks = [message.chunk async for message in self.transport.stream(rpc.RENDER_REPORT, request)]
        return Report(analysis_pb2.RenderReportRequest.Format.Name(request.format).lower(), b"".join(chunks))

    # Artifacts and workers

    async def artifacts(self, sweep: SweepName, trial: int) -> list[Artifact]:
        answer = await self.transport.unary(rpc.LIST_ARTIFACTS, trial_pb2.ListArtifactsRequest(parent=_trial(sweep, trial)))
        return [Artifact.of(one) for one in answer.artifacts]

    async def download(self, sweep: SweepName, trial: int, artifact: str, path: str | os.PathLike[str] | None) -> pathlib.Path:
        target = pathlib.Path(path if path is not None else artifact)
        if target.is_dir():
            target = target / pathlib.PurePath(artifact).name
        request = trial_pb2.DownloadArtifactRequest(trial=_trial(sweep, trial), artifact_name=artifact)
        announced: trial_pb2.Artifact | None = None
        digest, size = hashlib.sha256(), 0
        with replacing(target) as file:
            async for message in self.transport.stream(rpc.DOWNLOAD_ARTIFACT, request):
                if message.HasField("artifact"):
                    announced = message.artifact
                digest.update(message.chunk)
                size += len(message.chunk)
                file.write(message.chunk)
            if announced is None or size != announced.size_bytes or digest.hexdigest() != announced.sha256:
                raise DamagedDataError(f"'{artifact}' of trial {trial} arrived with another size or digest than it was stored under; nothing "
                                       "was kept", hint="Try again; 'loupe doctor' checks the coordinator's copy.")
        return target

    async def workers(self) -> list[Worker]:
        pages = self._pages(rpc.LIST_WORKERS, worker_pb2.ListWorkersRequest(page_size=1000))
        return [Worker.of(worker) async for page in pages for worker in page.workers]

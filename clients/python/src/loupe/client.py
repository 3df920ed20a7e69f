"""`Client`, and `AsyncClient`, its asynchronous twin: the same methods with the same arguments and answers."""

from __future__ import annotations

import os
import pathlib
from collections.abc import AsyncGenerator, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, overload

from loupe import connection, exports, transport
from loupe.errors import InvalidRequestError
from loupe.frames import Frame
from loupe.model import Anova, Artifact, HeatMap, LogLine, Plan, Progress, Report, Sweep, Trial, Worker
from loupe.operations import Operations, SweepName, _name
from loupe.specification import Spec
from loupe.transport import finish, iterate
from loupe.v1 import analysis_pb2

if TYPE_CHECKING:
    import pandas
    import polars

Path = str | os.PathLike[str]
ReportFormat = Literal["html", "text", "json", "csv"]
TableName = Literal["trials", "metrics"]


def _report_request(sweep: SweepName, format: str, response: str, terms: str, ss: int, table: str, with_: Iterable[SweepName],
                    baseline: Mapping[str, str], baseline_method: str, compare: SweepName, simple_effects: Iterable[str],
                    contrasts: Iterable[str], equal_parameters: float, parameters_tolerance: float,
                    rankings_between: str) -> analysis_pb2.RenderReportRequest:
    known = analysis_pb2.RenderReportRequest.Format.keys()[1:]
    if format.upper() not in known:
        raise InvalidRequestError(f"there is no report as '{format}': {', '.join(sorted(name.lower() for name in known))}")
    request = analysis_pb2.RenderReportRequest(
        name=_name(sweep), format=getattr(analysis_pb2.RenderReportRequest, format.upper()), response=response, terms=terms, ss_type=ss,
        table=table, baseline=dict(baseline), baseline_method=baseline_method, compare=_name(compare) if compare else "",
        simple_effects=list(simple_effects), contrasts=list(contrasts), equal_parameters=equal_parameters,
        parameters_tolerance=parameters_tolerance, rankings_between=rankings_between)
    getattr(request, "with").extend(_name(other) for other in with_)  # a word of Python's
    return request


class Client:
    """A coordinator.

        client = Client()                                  # the one that `loupe up` started here; or Client("host:7117", credentials=…)
        sweep = client.submit("configs/sweeps/quickstart.yaml")
        client.wait(sweep)
        client.anova(sweep)

    How it is found is `loupe.connection.find`. Thread-safe. Errors are `loupe.LoupeError` and say what to do. `timeout` is of one call, in
    seconds; waiting, reports and downloads take as long as they take.
    """

    def __init__(self, address: str = "", *, data: Path = ".loupe", token: str = "", token_file: str = "", credentials: str = "",
                 ca_file: str = "", cert_file: str = "", key_file: str = "", timeout: float = 20.0) -> None:
        found = connection.find(address, data=data, token=token, token_file=token_file, credentials=credentials, ca_file=ca_file,
                                cert_file=cert_file, key_file=key_file)
        self.address = found.address
        self._do = Operations(transport.BlockingTransport(found, timeout))

    def close(self) -> None:
        finish(self._do.transport.close())

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<loupe.Client of {self.address}>"

    def plan(self, spec: Spec, *, relative_to: Path | None = None) -> Plan:
        """The dry run: what `spec` would run. Nothing is stored. InvalidRequestError has every problem with its line."""
        return finish(self._do.plan(spec, relative_to))

    def submit(self, spec: Spec, *, name: str = "", exist_ok: bool = False, relative_to: Path | None = None) -> Sweep:
        """`spec` is a dict with the keys of a sweep file, the path of one, or its text; `name` instead of the file's. With `exist_ok` a
        sweep of that name with the same design is gone on with. Relative paths start at `relative_to`, by default the working directory;
        the workers need them under the same path."""
        return finish(self._do.submit(spec, name, exist_ok, relative_to))

    def sweeps(self) -> list[Sweep]:
        """Newest first; without their specifications."""
        return finish(self._do.sweeps())

    def sweep(self, sweep: SweepName) -> Sweep:
        return finish(self._do.sweep(sweep))

    def watch(self, sweep: SweepName, *, patience: float = 60.0) -> Iterator[Progress]:
        """At once, and then whenever something changes (at most twice a second), until the sweep has ended. A coordinator that goes away
        is waited for `patience` seconds."""
        return iterate(self._do.watch(sweep, patience))

    def wait(self, sweep: SweepName, *, progress: bool | None = None, timeout: float | None = None, patience: float = 60.0,
             check: bool = True) -> Sweep:
        """Until the sweep has ended, with a bar where tqdm is installed. TrialsWithoutResultError when some trials have no result (unless
        not `check`); DeadlineError after `timeout` seconds, and the sweep goes on."""
        return finish(self._do.wait(sweep, progress, timeout, patience, check))

    def pause(self, sweep: SweepName) -> Sweep:
        """No new trials; what runs goes on."""
        return finish(self._do.verb(transport.PAUSE_SWEEP, sweep))

    def resume(self, sweep: SweepName) -> Sweep:
        return finish(self._do.verb(transport.RESUME_SWEEP, sweep))

    def stop(self, sweep: SweepName) -> Sweep:
        """What runs ends and counts; what is queued is cancelled."""
        return finish(self._do.verb(transport.STOP_SWEEP, sweep))

    def cancel(self, sweep: SweepName) -> Sweep:
        """Everything ends now."""
        return finish(self._do.verb(transport.CANCEL_SWEEP, sweep))

    def retry(self, sweep: SweepName, *, failed: bool = False, quarantined: bool = False, cancelled: bool = False,
              cell: Mapping[str, str] | None = None) -> int:
        """Queues trials without a result again (none named: failed and quarantined); how many."""
        return finish(self._do.retry(sweep, failed, quarantined, cancelled, cell or {}))

    def delete(self, sweep: SweepName, *, force: bool = False) -> None:
        """With its results. StateError while it has not ended, unless `force`."""
        finish(self._do.delete(sweep, force))

    @overload
    def trials(self, sweep: SweepName, *, states: Iterable[str] = ..., frame: Literal["pandas"] = ...) -> pandas.DataFrame: ...
    @overload
    def trials(self, sweep: SweepName, *, states: Iterable[str] = ..., frame: Literal["polars"]) -> polars.DataFrame: ...
    @overload
    def trials(self, sweep: SweepName, *, states: Iterable[str] = ..., frame: Literal["rows"]) -> list[dict[str, Any]]: ...
    def trials(self, sweep: SweepName, *, states: Iterable[str] = (), frame: Frame = "pandas") -> Any:
        """A row per trial: trial, cell, replicate, state, a column per factor and per score, attempts, worker_losses, worker, started,
        ended, failure_class, failure."""
        return finish(self._do.trials(sweep, states, frame))

    def trial(self, sweep: SweepName, index: int) -> Trial:
        return finish(self._do.trial(sweep, index))

    def logs(self, sweep: SweepName, trial: int, *, attempt: int = 0, tail: int = 0) -> list[LogLine]:
        """What the worker logged of the trial's latest attempt, or of that one (from 1); with `tail`, the last so many lines."""
        return finish(self._do.logs(sweep, trial, attempt, tail))

    @overload
    def metrics(self, sweep: SweepName, trials: int | Collection[int] | None = ..., *, metric: str = ...,
                frame: Literal["pandas"] = ...) -> pandas.DataFrame: ...
    @overload
    def metrics(self, sweep: SweepName, trials: int | Collection[int] | None = ..., *, metric: str = ...,
                frame: Literal["polars"]) -> polars.DataFrame: ...
    @overload
    def metrics(self, sweep: SweepName, trials: int | Collection[int] | None = ..., *, metric: str = ...,
                frame: Literal["rows"]) -> list[dict[str, Any]]: ...
    def metrics(self, sweep: SweepName, trials: int | Collection[int] | None = None, *, metric: str = "", frame: Frame = "pandas") -> Any:
        """A row per point: trial, metric, step, value; of one trial, some, or all that were tried. Of a trial's accepted attempt, or else
        its latest."""
        return finish(self._do.metrics(sweep, trials, metric, frame))

    def anova(self, sweep: SweepName, *, response: str = "", terms: str = "", ss: int = 2) -> Anova:
        """The F table; the sweep's primary score and main effects unless said otherwise. StateError says what is missing."""
        return finish(self._do.anova(sweep, response, terms, ss))

    def heat_map(self, sweep: SweepName, *, rows: str = "input", columns: str = "output", response: str = "") -> HeatMap:
        """Means by two factors, over all trials with a result."""
        return finish(self._do.heat_map(sweep, rows, columns, response))

    def report(self, sweep: SweepName, *, format: ReportFormat = "html", response: str = "", terms: str = "", ss: int = 2, table: str = "",
               with_: Iterable[SweepName] = (), baseline: Mapping[str, str] | None = None, baseline_method: str = "",
               compare: SweepName = "", simple_effects: Iterable[str] = (), contrasts: Iterable[str] = (), equal_parameters: float = 0,
               parameters_tolerance: float = 0, rankings_between: str = "") -> Report:
        """As `loupe report` (docs/report.md), with the same options."""
        return finish(self._do.report(_report_request(sweep, format, response, terms, ss, table, with_, baseline or {}, baseline_method,
                                                      compare, simple_effects, contrasts, equal_parameters, parameters_tolerance,
                                                      rankings_between)))

    def artifacts(self, sweep: SweepName, trial: int) -> list[Artifact]:
        return finish(self._do.artifacts(sweep, trial))

    def download(self, sweep: SweepName, trial: int, artifact: str, path: Path | None = None) -> pathlib.Path:
        """Into `path` (a file, or a folder that is there), by default a file of the artifact's name. Whole and checked, or not at all."""
        return finish(self._do.download(sweep, trial, artifact, path))

    def export(self, sweep: SweepName, path: Path, *, table: TableName = "trials") -> pathlib.Path:
        """`trials` or `metrics` as .parquet, .csv, or .jsonl: the file is written whole or not at all."""
        return finish(self._do.export(sweep, path, table))

    def export_mlflow(self, sweep: SweepName, tracking_uri: str = "", *, experiment: str = "") -> str:
        """A finished sweep as an MLflow experiment, a run per trial; its id. May be called again after it was broken off."""
        return exports.to_mlflow(finish(self._do.data(sweep)), tracking_uri, experiment)

    def export_tensorboard(self, sweep: SweepName, folder: Path) -> pathlib.Path:
        """A finished sweep for `tensorboard --logdir folder`, with the levels under "HParams"."""
        return exports.to_tensorboard(finish(self._do.data(sweep)), folder)

    def workers(self) -> list[Worker]:
        return finish(self._do.workers())


class AsyncClient:
    """As `Client`, for use with `await`, in the event loop in which it is first used.

        async with AsyncClient() as client:
            sweep = await client.submit("configs/sweeps/quickstart.yaml")
            async for progress in client.watch(sweep): ...
    """

    def __init__(self, address: str = "", *, data: Path = ".loupe", token: str = "", token_file: str = "", credentials: str = "",
                 ca_file: str = "", cert_file: str = "", key_file: str = "", timeout: float = 20.0) -> None:
        found = connection.find(address, data=data, token=token, token_file=token_file, credentials=credentials, ca_file=ca_file,
                                cert_file=cert_file, key_file=key_file)
        self.address = found.address
        self._do = Operations(transport.AsyncTransport(found, timeout))

    async def close(self) -> None:
        await self._do.transport.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<loupe.AsyncClient of {self.address}>"

    async def plan(self, spec: Spec, *, relative_to: Path | None = None) -> Plan:
        return await self._do.plan(spec, relative_to)

    async def submit(self, spec: Spec, *, name: str = "", exist_ok: bool = False, relative_to: Path | None = None) -> Sweep:
        return await self._do.submit(spec, name, exist_ok, relative_to)

    async def sweeps(self) -> list[Sweep]:
        return await self._do.sweeps()

    async def sweep(self, sweep: SweepName) -> Sweep:
        return await self._do.sweep(sweep)

    def watch(self, sweep: SweepName, *, patience: float = 60.0) -> AsyncGenerator[Progress, None]:
        return self._do.watch(sweep, patience)

    async def wait(self, sweep: SweepName, *, progress: bool | None = None, timeout: float | None = None, patience: float = 60.0,
             check: bool = True) -> Sweep:
        return await self._do.wait(sweep, progress, timeout, patience, check)

    async def pause(self, sweep: SweepName) -> Sweep:
        return await self._do.verb(transport.PAUSE_SWEEP, sweep)

    async def resume(self, sweep: SweepName) -> Sweep:
        return await self._do.verb(transport.RESUME_SWEEP, sweep)

    async def stop(self, sweep: SweepName) -> Sweep:
        return await self._do.verb(transport.STOP_SWEEP, sweep)

    async def cancel(self, sweep: SweepName) -> Sweep:
        return await self._do.verb(transport.CANCEL_SWEEP, sweep)

    async def retry(self, sweep: SweepName, *, failed: bool = False, quarantined: bool = False, cancelled: bool = False,
              cell: Mapping[str, str] | None = None) -> int:
        return await self._do.retry(sweep, failed, quarantined, cancelled, cell or {})

    async def delete(self, sweep: SweepName, *, force: bool = False) -> None:
        await self._do.delete(sweep, force)

    @overload
    async def trials(self, sweep: SweepName, *, states: Iterable[str] = ..., frame: Literal["pandas"] = ...) -> pandas.DataFrame: ...
    @overload
    async def trials(self, sweep: SweepName, *, states: Iterable[str] = ..., frame: Literal["polars"]) -> polars.DataFrame: ...
    @overload
    async def trials(self, sweep: SweepName, *, states: Iterable[str] = ..., frame: Literal["rows"]) -> list[dict[str, Any]]: ...
    async def trials(self, sweep: SweepName, *, states: Iterable[str] = (), frame: Frame = "pandas") -> Any:
        return await self._do.trials(sweep, states, frame)

    async def trial(self, sweep: SweepName, index: int) -> Trial:
        return await self._do.trial(sweep, index)

    async def logs(self, sweep: SweepName, trial: int, *, attempt: int = 0, tail: int = 0) -> list[LogLine]:
        return await self._do.logs(sweep, trial, attempt, tail)

    @overload
    async def metrics(self, sweep: SweepName, trials: int | Collection[int] | None = ..., *, metric: str = ...,
                frame: Literal["pandas"] = ...) -> pandas.DataFrame: ...
    @overload
    async def metrics(self, sweep: SweepName, trials: int | Collection[int] | None = ..., *, metric: str = ...,
                frame: Literal["polars"]) -> polars.DataFrame: ...
    @overload
    async def metrics(self, sweep: SweepName, trials: int | Collection[int] | None = ..., *, metric: str = ...,
                frame: Literal["rows"]) -> list[dict[str, Any]]: ...
    async def metrics(self, sweep: SweepName, trials: int | Collection[int] | None = None, *, metric: str = "", frame: Frame = "pandas") -> Any:
        return await self._do.metrics(sweep, trials, metric, frame)

    async def anova(self, sweep: SweepName, *, response: str = "", terms: str = "", ss: int = 2) -> Anova:
        return await self._do.anova(sweep, response, terms, ss)

    async def heat_map(self, sweep: SweepName, *, rows: str = "input", columns: str = "output", response: str = "") -> HeatMap:
        return await self._do.heat_map(sweep, rows, columns, response)

    async def report(self, sweep: SweepName, *, format: ReportFormat = "html", response: str = "", terms: str = "", ss: int = 2, table: str = "",
               with_: Iterable[SweepName] = (), baseline: Mapping[str, str] | None = None, baseline_method: str = "",
               compare: SweepName = "", simple_effects: Iterable[str] = (), contrasts: Iterable[str] = (), equal_parameters: float = 0,
               parameters_tolerance: float = 0, rankings_between: str = "") -> Report:
        return await self._do.report(_report_request(sweep, format, response, terms, ss, table, with_, baseline or {}, baseline_method,
                                                      compare, simple_effects, contrasts, equal_parameters, parameters_tolerance,
                                                      rankings_between))

    async def artifacts(self, sweep: SweepName, trial: int) -> list[Artifact]:
        return await self._do.artifacts(sweep, trial)

    async def download(self, sweep: SweepName, trial: int, artifact: str, path: Path | None = None) -> pathlib.Path:
        return await self._do.download(sweep, trial, artifact, path)

    async def export(self, sweep: SweepName, path: Path, *, table: TableName = "trials") -> pathlib.Path:
        return await self._do.export(sweep, path, table)

    async def export_mlflow(self, sweep: SweepName, tracking_uri: str = "", *, experiment: str = "") -> str:
        return exports.to_mlflow(await self._do.data(sweep), tracking_uri, experiment)

    async def export_tensorboard(self, sweep: SweepName, folder: Path) -> pathlib.Path:
        return exports.to_tensorboard(await self._do.data(sweep), folder)

    async def workers(self) -> list[Worker]:
        return await self._do.workers()

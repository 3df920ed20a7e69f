"""Calls to the coordinator, blocking or asynchronous, behind one interface.

Every operation of the client is written once, as a coroutine over `Transport`. With `BlockingTransport` such a coroutine never
suspends, so that `finish` runs it to its end like a function: the blocking client and its asynchronous twin cannot drift apart.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from typing import Any, Generic, Protocol, TypeVar, cast

import grpc
from google.protobuf.message import Message

from loupe.connection import Connection
from loupe.errors import AccessError, LoupeError, from_rpc
from loupe.v1 import analysis_pb2, sweep_pb2, trial_pb2, worker_pb2

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Method(Generic[Request, Response]):
    """One method of the contract: "/loupe.v1.SweepService/GetSweep" with its messages."""

    path: str
    request: type[Request]
    response: type[Response]


_SWEEPS, _TRIALS, _WORKERS, _ANALYSIS = (f"/loupe.v1.{name}Service/" for name in ("Sweep", "Trial", "Worker", "Analysis"))

CREATE_SWEEP = Method(_SWEEPS + "CreateSweep", sweep_pb2.CreateSweepRequest, sweep_pb2.CreateSweepResponse)
GET_SWEEP = Method(_SWEEPS + "GetSweep", sweep_pb2.GetSweepRequest, sweep_pb2.Sweep)
LIST_SWEEPS = Method(_SWEEPS + "ListSweeps", sweep_pb2.ListSweepsRequest, sweep_pb2.ListSweepsResponse)
DELETE_SWEEP = Method(_SWEEPS + "DeleteSweep", sweep_pb2.DeleteSweepRequest, sweep_pb2.DeleteSweepResponse)
PAUSE_SWEEP = Method(_SWEEPS + "PauseSweep", sweep_pb2.SweepVerbRequest, sweep_pb2.Sweep)
RESUME_SWEEP = Method(_SWEEPS + "ResumeSweep", sweep_pb2.SweepVerbRequest, sweep_pb2.Sweep)
STOP_SWEEP = Method(_SWEEPS + "StopSweep", sweep_pb2.SweepVerbRequest, sweep_pb2.Sweep)
CANCEL_SWEEP = Method(_SWEEPS + "CancelSweep", sweep_pb2.SweepVerbRequest, sweep_pb2.Sweep)
RETRY_TRIALS = Method(_SWEEPS + "RetryTrials", sweep_pb2.RetryTrialsRequest, sweep_pb2.RetryTrialsResponse)
WATCH_SWEEP = Method(_SWEEPS + "WatchSweep", sweep_pb2.WatchSweepRequest, sweep_pb2.WatchSweepResponse)
GET_TRIAL = Method(_TRIALS + "GetTrial", trial_pb2.GetTrialRequest, trial_pb2.Trial)
LIST_TRIALS = Method(_TRIALS + "ListTrials", trial_pb2.ListTrialsRequest, trial_pb2.ListTrialsResponse)
LIST_METRIC_POINTS = Method(_TRIALS + "ListMetricPoints", trial_pb2.ListMetricPointsRequest, trial_pb2.ListMetricPointsResponse)
LIST_TRIAL_LOGS = Method(_TRIALS + "ListTrialLogs", trial_pb2.ListTrialLogsRequest, trial_pb2.ListTrialLogsResponse)
LIST_ARTIFACTS = Method(_TRIALS + "ListArtifacts", trial_pb2.ListArtifactsRequest, trial_pb2.ListArtifactsResponse)
DOWNLOAD_ARTIFACT = Method(_TRIALS + "DownloadArtifact", trial_pb2.DownloadArtifactRequest, trial_pb2.DownloadArtifactResponse)
LIST_WORKERS = Method(_WORKERS + "ListWorkers", worker_pb2.ListWorkersRequest, worker_pb2.ListWorkersResponse)
GET_ANOVA = Method(_ANALYSIS + "GetAnova", analysis_pb2.GetAnovaRequest, analysis_pb2.GetAnovaResponse)
RENDER_REPORT = Method(_ANALYSIS + "RenderReport", analysis_pb2.RenderReportRequest, analysis_pb2.RenderReportResponse)


class Transport(Protocol):
    """Errors are LoupeError. A refused token is read again from its file, and the call made once more if it is another one."""

    connection: Connection

    async def unary(self, method: Method[Request, Response], request: Request) -> Response: ...

    def stream(self, method: Method[Request, Response], request: Request, timeout: float | None = None) -> AsyncGenerator[Response, None]: ...

    async def sleep(self, seconds: float) -> None: ...

    async def close(self) -> None: ...


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


class BlockingTransport:
    def __init__(self, connection: Connection, timeout: float) -> None:
        self.connection = connection
        self._timeout = timeout
        self._channel = connection.channel()

    async def unary(self, method: Method[Request, Response], request: Request) -> Response:
        call = self._channel.unary_unary(method.path, request_serializer=_serialize, response_deserializer=method.response.FromString)
        for again in (True, False):
            try:
                return call(request, timeout=self._timeout, metadata=self.connection.metadata())
            except grpc.RpcError as error:
                self._raise_unless_renewed(error, again)
        raise AssertionError("the second try returns or raises")

    async def stream(self, method: Method[Request, Response], request: Request, timeout: float | None = None) -> AsyncGenerator[Response, None]:
        call = self._channel.unary_stream(method.path, request_serializer=_serialize, response_deserializer=method.response.FromString)
        for again in (True, False):
            messages = call(request, timeout=timeout, metadata=self.connection.metadata())
            try:
                for message in messages:
                    yield message
                return
            except grpc.RpcError as error:
                self._raise_unless_renewed(error, again)
            finally:
                cast(Any, messages).cancel()

    def _raise_unless_renewed(self, error: grpc.RpcError, again: bool) -> None:
        found = from_rpc(error, self.connection.address)
        if not (again and isinstance(found, AccessError) and self.connection.token_changed()):
            raise found from error

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def close(self) -> None:
        self._channel.close()


class AsyncTransport:
    """Belongs to the event loop in which it is first used."""

    def __init__(self, connection: Connection, timeout: float) -> None:
        self.connection = connection
        self._timeout = timeout
        self._channel: grpc.aio.Channel | None = None

    def _open(self) -> grpc.aio.Channel:
        if self._channel is None:
            self._channel = self.connection.aio_channel()
        return self._channel

    async def unary(self, method: Method[Request, Response], request: Request) -> Response:
        call = self._open().unary_unary(method.path, request_serializer=_serialize, response_deserializer=method.response.FromString)
        for again in (True, False):
            try:
                return await call(request, timeout=self._timeout, metadata=self.connection.metadata())
            except grpc.aio.AioRpcError as error:
                self._raise_unless_renewed(error, again)
        raise AssertionError("the second try returns or raises")

    async def stream(self, method: Method[Request, Response], request: Request, timeout: float | None = None) -> AsyncGenerator[Response, None]:
        call = self._open().unary_stream(method.path, request_serializer=_serialize, response_deserializer=method.response.FromString)
        for again in (True, False):
            messages = call(request, timeout=timeout, metadata=self.connection.metadata())
            try:
                async for message in messages:
                    yield message
                return
            except grpc.aio.AioRpcError as error:
                self._raise_unless_renewed(error, again)
            finally:
                cast(Any, messages).cancel()

    def _raise_unless_renewed(self, error: grpc.aio.AioRpcError, again: bool) -> None:
        found = from_rpc(error, self.connection.address)
        if not (again and isinstance(found, AccessError) and self.connection.token_changed()):
            raise found from error

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()


def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine over a BlockingTransport."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return cast(T, done.value)
    coroutine.close()
    raise LoupeError("a blocking call suspended: this is a fault of the client")


def iterate(generator: AsyncGenerator[T, None]) -> Iterator[T]:
    """The values of an asynchronous generator over a BlockingTransport; leaving the loop ends the call."""

    def step(make: Callable[[], Any]) -> Any:
        async def run() -> Any:
            return await make()
        return finish(run())

    try:
        while True:
            try:
                value = step(generator.__anext__)
            except StopAsyncIteration:
                return
            yield value
    finally:
        step(generator.aclose)

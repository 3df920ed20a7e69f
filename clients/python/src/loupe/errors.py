"""What goes wrong, as exceptions: each says what, and where it can, what to do."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

_DETAILS = "grpc-status-details-bin"


@dataclasses.dataclass(frozen=True)
class Violation:
    """One thing that is wrong with a request: the field ("spec.factors[1]") or the place in a sweep file ("sweep.yaml:12:5")."""

    field: str
    description: str


class LoupeError(Exception):
    """Base of all. `code` is gRPC's name of it ("NOT_FOUND"), `reason` the contract's ("INPUTS_DIFFER", or empty)."""

    def __init__(self, message: str, *, hint: str = "", code: str = "", reason: str = "",
                 violations: Sequence[Violation] = (), retry_after: float = 0.0) -> None:
        super().__init__(f"{message}\n{hint}" if hint else message)
        self.message = message
        self.hint = hint
        self.code = code
        self.reason = reason
        self.violations = list(violations)
        self.retry_after = retry_after


class InvalidRequestError(LoupeError):
    """The specification or an argument is wrong; nothing was done. `violations` has each problem."""


class NotFoundError(LoupeError):
    """No such sweep, trial or artifact."""


class AlreadyExistsError(LoupeError):
    """A sweep of that name is there, with another design."""


class StateError(LoupeError):
    """Not now: the sweep is in a state in which this means nothing, or has too few results."""


class AccessError(LoupeError):
    """The token is missing, wrong, or not for this."""


class UnavailableError(LoupeError):
    """No coordinator answers, or it cannot commit at the moment."""


class LimitError(LoupeError):
    """Too many calls, or too much at once; `retry_after` seconds later it may go."""


class ConflictError(LoupeError):
    """Something changed in between (an etag that does not match)."""


class DamagedDataError(LoupeError):
    """Bytes arrived that are not what they were announced to be."""


class DeadlineError(LoupeError):
    """The time given to `wait`, or to a call, has passed."""


class TrialsWithoutResultError(LoupeError):
    """The sweep has ended and some trials have no result. `sweep` is the sweep as it ended."""

    def __init__(self, message: str, sweep: object, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.sweep = sweep


class MissingPackageError(LoupeError, ImportError):
    """An optional package is not installed; the message says which, and how to get it."""


_CLASSES: dict[grpc.StatusCode, type[LoupeError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExistsError,
    grpc.StatusCode.FAILED_PRECONDITION: StateError,
    grpc.StatusCode.UNAUTHENTICATED: AccessError,
    grpc.StatusCode.PERMISSION_DENIED: AccessError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: LimitError,
    grpc.StatusCode.ABORTED: ConflictError,
    grpc.StatusCode.DATA_LOSS: DamagedDataError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
}


def _hint(code: grpc.StatusCode, reason: str, address: str) -> str:
    if code is grpc.StatusCode.UNAVAILABLE and not reason:
        return (f"No coordinator answers at {address}: start one with 'loupe up', or name another one with address=…, LOUPE_ADDRESS or "
                "credentials=…. One with TLS of its own answers only with credentials ('loupe-coordinator token add … -o FILE').")
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return f"The coordinator at {address} wants a token: token_file=DATA/token, credentials=FILE, LOUPE_TOKEN or LOUPE_TOKEN_FILE."
    if code is grpc.StatusCode.PERMISSION_DENIED:
        return "The token's role does not allow this; 'loupe-coordinator token add --role submitter' makes one that may submit."
    if reason == "RATE_LIMITED":
        return "Wait, then call again; one client that pages through results needs fewer calls than many."
    if reason == "STORE_UNAVAILABLE":
        return "The coordinator cannot write to its data folder; its log and 'loupe doctor' say why."
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return "The coordinator is older than this client: bring it up to date, or install the client that came with it."
    return ""


def from_rpc(error: grpc.RpcError | grpc.aio.AioRpcError, address: str) -> LoupeError:
    """gRPC's error as one of these; `address` is the coordinator's, for the hint."""
    if not isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        return LoupeError(str(error))
    code = error.code()
    message = error.details() or code.name.replace("_", " ").lower()
    reason, retry_after = "", 0.0
    violations: list[Violation] = []
    for key, value in error.trailing_metadata() or ():
        if key != _DETAILS or isinstance(value, str):
            continue
        try:
            status = status_pb2.Status.FromString(bytes(value))
        except DecodeError:
            continue
        for detail in status.details:
            info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
            if detail.Unpack(info):
                reason = info.reason
            elif detail.Unpack(bad):
                violations += [Violation(one.field, one.description) for one in bad.field_violations]
            elif detail.Unpack(retry):
                retry_after = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    return _CLASSES.get(code, LoupeError)(message, hint=_hint(code, reason, address), code=code.name, reason=reason,
                                          violations=violations, retry_after=retry_after)

"""Which coordinator, with which token and certificates: found as the command line finds them (docs/cli.md)."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import stat
import sys
import threading

import grpc

from loupe.errors import AccessError, InvalidRequestError, NotFoundError

DEFAULT_ADDRESS = "127.0.0.1:7117"
_LOOPBACK = ("127.", "localhost:", "[::1]:")
# As clients/rpc/connection.cc: a coordinator that restarts is found again within seconds, and a vanished one is noticed.
_CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 3000), ("grpc.min_reconnect_backoff_ms", 10000),
    ("grpc.keepalive_time_ms", 20000), ("grpc.keepalive_timeout_ms", 10000), ("grpc.use_local_subchannel_pool", 1))


@dataclasses.dataclass(frozen=True)
class Credentials:
    """A credentials file: address, token and, with TLS, certificate, key and authority in one."""

    address: str
    token: str
    certificate: bytes = b""
    key: bytes = b""
    authority: bytes = b""

    @staticmethod
    def read(path: str) -> Credentials:
        text = _read_private(path, "a credentials file")
        address = token = ""
        blocks: list[tuple[bool, str]] = []
        inside = False
        for line in (raw.strip() for raw in text.splitlines()):
            if line.startswith("-----BEGIN "):
                blocks.append(("PRIVATE KEY" in line, ""))
                inside = True
            if inside:
                blocks[-1] = (blocks[-1][0], blocks[-1][1] + line + "\n")
                inside = not line.startswith("-----END ")
            elif line.startswith("Address:"):
                address = line.removeprefix("Address:").strip()
            elif line.startswith("Token:"):
                token = line.removeprefix("Token:").strip()
        key_at = next((at for at, (is_key, _) in enumerate(blocks) if is_key), len(blocks))
        certificate = "".join(block for _, block in blocks[:key_at])
        key = "".join(block for is_key, block in blocks if is_key)
        authority = "".join(block for is_key, block in blocks[key_at:] if not is_key)
        missing = ("line 'Address: host:port'" if not address else "line 'Token: …'" if not token
                   else "end of its last PEM block" if inside else "key for its certificate" if bool(certificate) != bool(key)
                   else "authority's certificate after the key" if bool(authority) != bool(key) else "")
        if missing:
            raise InvalidRequestError(f"'{path}' is not a credentials file: it has no {missing}",
                                      hint="'loupe-coordinator token add … -o FILE' makes one.")
        return Credentials(address, token, certificate.encode(), key.encode(), authority.encode())


def _read(path: str, what: str) -> str:
    try:
        return pathlib.Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise NotFoundError(f"cannot read '{path}', {what}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"'{path}', {what}, is not plain text: save it as UTF-8") from error


def _read_private(path: str, what: str) -> str:
    try:
        info = os.lstat(path)
    except OSError as error:
        raise NotFoundError(f"cannot read '{path}', {what}: {error.strerror}") from error
    if not stat.S_ISREG(info.st_mode):
        raise AccessError(f"'{path}', {what}, is not a file of its own: put the file itself in its place")
    if info.st_mode & 0o077:
        raise AccessError(f"others may read '{path}', {what}: run chmod 600 on it")
    return _read(path, what)


def _token_in(text: str, source: str) -> str:
    """The first line that is not blank. What no header can carry is refused, and never shown."""
    token = next((line.strip() for line in text.removeprefix("\ufeff").splitlines() if line.strip()), "")
    problem = ("no token is there" if not token
               else f"its character {bad + 1} is one that no token has"
               if (bad := next((at for at, one in enumerate(token) if not "!" <= one <= "~"), -1)) >= 0
               else "the token stands in quotation marks: remove them" if len(token) > 1 and token[0] == token[-1] and token[0] in "\"'`"
               else "")
    if problem:
        raise InvalidRequestError(f"{source}: {problem}; expected the token alone on one line")
    return token


def _traceparent() -> str:
    """The trace that the caller is in, by W3C's words: OpenTelemetry's current span in a program that has loaded it, else TRACEPARENT."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is not None:
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            return f"00-{span.trace_id:032x}-{span.span_id:016x}-{int(span.trace_flags):02x}"
    text = os.environ.get("TRACEPARENT", "")
    return text if re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", text) else ""


class Connection:
    """One coordinator. Thread-safe; holds no channel of its own."""

    def __init__(self, address: str, token: str = "", *, token_file: str = "", credentials_file: str = "", authority: bytes = b"",
                 certificate: bytes = b"", key: bytes = b"") -> None:
        host, colon, port = address.rpartition(":")
        if not host or not colon or not port.isascii() or not port.isdigit() or "/" in address or not address.isprintable():
            raise InvalidRequestError(f"'{address}' is not a coordinator's address: expected host:port, such as {DEFAULT_ADDRESS}")
        if bool(certificate) != bool(key):
            raise InvalidRequestError("a client certificate needs both its certificate file and its key file")
        if certificate and not authority:
            raise InvalidRequestError("a client certificate was given without a CA file: TLS needs both")
        self.address = address
        self._token = _token_in(token, token_file or credentials_file or "the access token") if token else ""
        self._token_file = token_file
        self._credentials_file = credentials_file
        self._tls = (authority, key, certificate) if authority else None
        self._lock = threading.Lock()

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Of a call made now: the token, and the trace that it belongs to (docs/http.md, Traces)."""
        with self._lock:
            token = (("authorization", f"Bearer {self._token}"),) if self._token else ()
        traceparent = _traceparent()
        return (*token, ("traceparent", traceparent)) if traceparent else token

    def token_changed(self) -> bool:
        """Reads the token's file again, as it is renewed by being replaced; whether it holds another one now."""
        if self._token_file:
            token = _token_in(_read(self._token_file, "a token file"), self._token_file)
        elif self._credentials_file:
            token = _token_in(Credentials.read(self._credentials_file).token, self._credentials_file)
        else:
            return False
        with self._lock:
            changed, self._token = token != self._token, token
        return changed

    def _options(self) -> list[tuple[str, int]]:
        return [*_CHANNEL_OPTIONS, ("grpc.enable_http_proxy", 0 if self.address.startswith(_LOOPBACK) else 1)]

    def _credentials(self) -> grpc.ChannelCredentials | None:
        if self._tls is None:
            return None
        authority, key, certificate = self._tls
        return grpc.ssl_channel_credentials(authority, key or None, certificate or None)

    def channel(self) -> grpc.Channel:
        credentials = self._credentials()
        if credentials is None:
            return grpc.insecure_channel(self.address, self._options())
        return grpc.secure_channel(self.address, credentials, self._options())

    def aio_channel(self) -> grpc.aio.Channel:
        credentials = self._credentials()
        if credentials is None:
            return grpc.aio.insecure_channel(self.address, self._options())
        return grpc.aio.secure_channel(self.address, credentials, self._options())


def find(address: str = "", *, data: str | os.PathLike[str] = ".loupe", token: str = "", token_file: str = "", credentials: str = "",
         ca_file: str = "", cert_file: str = "", key_file: str = "") -> Connection:
    """What is given wins; then the environment (LOUPE_ADDRESS, LOUPE_TOKEN, LOUPE_TOKEN_FILE, LOUPE_CREDENTIALS, LOUPE_CA_FILE,
    LOUPE_CERT_FILE, LOUPE_KEY_FILE); then what a running `loupe up` left in the folder `data`; then 127.0.0.1:7117. The token of
    `data` is never sent to another address."""
    environment = os.environ.get
    folder = pathlib.Path(data)
    elsewhere = address or environment("LOUPE_ADDRESS") or credentials or environment("LOUPE_CREDENTIALS")
    if not elsewhere:
        if not ca_file and os.access(folder / "credentials", os.R_OK):
            credentials = str(folder / "credentials")
        else:
            if os.access(folder / "address", os.R_OK):
                address = _read(str(folder / "address"), "the address of 'loupe up'").strip()
            named = token or token_file or environment("LOUPE_TOKEN") or environment("LOUPE_TOKEN_FILE")
            if not named and os.access(folder / "token", os.R_OK):
                token_file = str(folder / "token")

    authority = certificate = key = b""

    def take(path: str) -> None:
        nonlocal address, token, authority, certificate, key
        found = Credentials.read(path)
        address = address or found.address
        if not token and not token_file:
            token = found.token
        if found.key and not ca_file and not cert_file:
            authority, certificate, key = found.authority, found.certificate, found.key

    if credentials:
        take(credentials)
    address = address or environment("LOUPE_ADDRESS", "")
    if not authority:
        ca_file = ca_file or environment("LOUPE_CA_FILE", "")
        cert_file = cert_file or environment("LOUPE_CERT_FILE", "")
        key_file = key_file or environment("LOUPE_KEY_FILE", "")
    if not token_file:
        token = token or environment("LOUPE_TOKEN", "")
    if not token:
        token_file = token_file or environment("LOUPE_TOKEN_FILE", "")
    if not credentials and environment("LOUPE_CREDENTIALS"):
        credentials = environment("LOUPE_CREDENTIALS", "")
        take(credentials)
    if ca_file:
        authority = _read(ca_file, "the authority's certificate").encode()
        certificate = _read(cert_file, "the client's certificate").encode() if cert_file else b""
        key = _read(key_file, "the client's key").encode() if key_file else b""
    if token_file and not token:
        token = _token_in(_read(token_file, "a token file"), f"token file '{token_file}'")
    elif token and not credentials:
        token_file = ""
    return Connection(address or DEFAULT_ADDRESS, token, token_file=token_file, credentials_file=credentials, authority=authority,
                      certificate=certificate, key=key)

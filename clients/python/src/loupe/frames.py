"""Rows as data frames and files."""

from __future__ import annotations

import contextlib
import csv
import datetime
import importlib
import io
import json
import math
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any, Literal

from loupe.errors import InvalidRequestError, MissingPackageError

Value = str | int | float | bool | datetime.datetime | None
Row = dict[str, Value]
Frame = Literal["pandas", "polars", "rows"]


def optional(name: str, extra: str, what: str) -> Any:
    """An optional package's module; MissingPackageError says what it is for and how to get it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise MissingPackageError(f"{what} needs the package '{package}', which is not installed here",
                                  hint=f"pip install 'loupe-sweeps[{extra}]'") from error


def columns_of(rows: Sequence[Row]) -> list[str]:
    """Of all rows, in the order in which they first stand."""
    return list(dict.fromkeys(name for row in rows for name in row))


def to_frame(rows: Sequence[Row], kind: Frame, columns: Sequence[str] | None = None) -> Any:
    """`columns` also where there is no row. Texts stay texts: a factor's levels are names, also where they look like numbers."""
    names = list(columns) if columns is not None else columns_of(rows)
    full = [{name: row.get(name) for name in names} for row in rows]
    if kind == "rows":
        return full
    if kind == "pandas":
        pandas = optional("pandas", "pandas", "a data frame")
        return pandas.DataFrame(full, columns=names)
    if kind == "polars":
        polars = optional("polars", "polars", "a polars data frame")
        return polars.DataFrame(full, infer_schema_length=None) if full else polars.DataFrame({name: [] for name in names})
    raise InvalidRequestError(f"there is no frame '{kind}': pandas, polars or rows")


def _csv_text(value: Value) -> str:
    """As the command line writes it: a text that a spreadsheet would run as a formula has an apostrophe in front; numbers stay."""
    if value is None:
        return ""
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    text = str(value)
    return "'" + text if isinstance(value, str) and text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _json_value(value: Value) -> Value:
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_csv(rows: Sequence[Row], columns: Sequence[str], file: IO[bytes]) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_csv_text(name) for name in columns])
    writer.writerows([_csv_text(row.get(name)) for name in columns] for row in rows)
    text.flush()
    text.detach()


def _write_json_lines(rows: Sequence[Row], columns: Sequence[str], file: IO[bytes]) -> None:
    for row in rows:
        line = json.dumps({name: _json_value(row.get(name)) for name in columns}, ensure_ascii=False, allow_nan=False)
        file.write(line.encode() + b"\n")


def _write_parquet(rows: Sequence[Row], columns: Sequence[str], file: IO[bytes]) -> None:
    optional("polars", "parquet", "a Parquet file")
    to_frame(rows, "polars", columns).write_parquet(file)


_WRITERS: dict[str, Callable[[Sequence[Row], Sequence[str], IO[bytes]], None]] = {
    ".csv": _write_csv, ".jsonl": _write_json_lines, ".ndjson": _write_json_lines, ".parquet": _write_parquet}


def check_ending(path: pathlib.Path) -> None:
    if path.suffix not in _WRITERS:
        raise InvalidRequestError(f"'{path}' has the ending '{path.suffix}'; tables are written as {', '.join(_WRITERS)}")


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[IO[bytes]]:
    """`path` has all that is written in the block, or is what it was."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        pathlib.Path(temporary).unlink(missing_ok=True)
        raise


def write_rows(rows: Sequence[Row], columns: Sequence[str], path: pathlib.Path) -> pathlib.Path:
    check_ending(path)
    with replacing(path) as file:
        _WRITERS[path.suffix](rows, columns, file)
    return path

"""A sweep's specification as text for the coordinator, which has the one reader of sweep files (docs/sweep-file.md)."""

from __future__ import annotations

import json
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from loupe.errors import InvalidRequestError, NotFoundError, Violation
from loupe.v1 import sweep_pb2

# A mapping with the keys of a sweep file; a path; or the text itself: a str with a line break, or one that begins with "{".
Spec = Mapping[str, Any] | str | os.PathLike[str]


def _plain(value: Any) -> Any:
    """Paths, and numbers of NumPy, as JSON has them."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "item"):
        return value.item()
    if hasattr(value, "tolist"):
        return value.tolist()
    raise InvalidRequestError(f"a specification cannot hold {value!r} (a {type(value).__name__}): texts, numbers, true or false, lists and "
                              "mappings")


def sweep_file(spec: Spec, relative_to: str | os.PathLike[str] | None) -> sweep_pb2.SweepFile:
    """Relative paths in it start at `relative_to`, or else the working directory, as for `loupe submit`."""
    name = "spec"
    if isinstance(spec, Mapping):
        try:
            text = json.dumps(spec, ensure_ascii=False, allow_nan=False, indent=1, default=_plain)
        except (TypeError, ValueError) as error:
            raise InvalidRequestError(f"the specification cannot be written as JSON: {error}") from error
    elif isinstance(spec, str) and ("\n" in spec or spec.lstrip().startswith("{")):
        text = spec
    else:
        path = pathlib.Path(spec)
        name = str(path)
        try:
            text = path.read_bytes().decode("utf-8")
        except OSError as error:
            raise NotFoundError(f"cannot read the sweep file '{path}': {error.strerror}",
                                hint="A specification may also be a dict, or the text of a sweep file.") from error
        except UnicodeDecodeError as error:
            raise InvalidRequestError(f"the sweep file '{path}' is not UTF-8 text (byte {error.start + 1})") from error
    return sweep_pb2.SweepFile(text=text, file_name=name, working_directory=os.path.abspath(relative_to or os.getcwd()))


def pointed_out(error: InvalidRequestError, file: sweep_pb2.SweepFile) -> InvalidRequestError:
    """The same error with the lines that it means: a dict has no line numbers that its writer ever saw."""
    lines = file.text.splitlines()
    shown = [part for violation in error.violations for part in _shown(violation, lines)]
    if not shown:
        return error
    hint = "\n".join([*shown[:40], error.hint] if error.hint else shown[:40])
    return InvalidRequestError(error.message, hint=hint, code=error.code, reason=error.reason, violations=error.violations)


def _shown(violation: Violation, lines: list[str]) -> list[str]:
    place = re.search(r":(\d+):(\d+)$", violation.field)
    if place is None or int(place[1]) > len(lines):
        return []
    return [f"  {place[1]:>4} | {lines[int(place[1]) - 1]}", f"       | {' ' * (int(place[2]) - 1)}^"]


def same_design(one: sweep_pb2.SweepSpec, other: sweep_pb2.SweepSpec) -> bool:
    """Whether both mean the same sweep. The text, and the defaults of the program that made it, are its own affair."""
    copies = []
    for spec in (one, other):
        copy = sweep_pb2.SweepSpec()
        copy.CopyFrom(spec)
        copy.ClearField("source_text")
        copy.ClearField("defaults")
        copies.append(copy)
    return copies[0] == copies[1]

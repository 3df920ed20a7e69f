"""HTML for notebooks: self-contained, without scripts. Everything that somebody else wrote is escaped."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

# Lightness rises evenly from bad to good, so that the order shows in grey and with every colour vision (cividis-like, four stops).
_SCALE = ((0, 32, 77), (87, 92, 109), (165, 157, 116), (255, 234, 70))
_BAR = {"succeeded": "#009e73", "failed": "#d55e00", "running": "#56b4e9", "cancelled": "#999999", "queued": "#dddddd"}


def number(value: float) -> str:
    """Four digits that mean something; empty for what does not exist."""
    return "" if not math.isfinite(value) else f"{value:.4g}"


def p_value(value: float) -> str:
    if not math.isfinite(value):
        return ""
    stars = "***" if value < 0.001 else "**" if value < 0.01 else "*" if value < 0.05 else ""
    return f"{'<0.0001' if value < 0.0001 else f'{value:.4f}'} {stars}".strip()


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in header)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(value))}</td>" for value in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def bar(parts: Sequence[tuple[str, int]]) -> str:
    total = sum(count for _, count in parts) or 1
    pieces = "".join(f'<span title="{name}: {count}" style="display:inline-block;height:0.8em;width:{100 * count / total:.3f}%;'
                     f'background:{_BAR[name]}"></span>' for name, count in parts if count)
    words = ", ".join(f"{count} {name}" for name, count in parts if count) or "no trials"
    return f'<div style="max-width:40em;line-height:0">{pieces}</div><div>{words} of {sum(count for _, count in parts)}</div>'


def card(title: str, subtitle: str, body: str, notes: Sequence[str]) -> str:
    listed = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    return (f"<div><strong>{html.escape(title)}</strong> <em>{html.escape(subtitle)}</em>{body}"
            f"{f'<ul>{listed}</ul>' if listed else ''}</div>")


def _colour(share: float) -> tuple[str, str]:
    """Of 0 (worst) to 1 (best): the background, and black or white on it, whichever contrasts more."""
    at = min(max(share, 0.0), 1.0) * (len(_SCALE) - 1)
    low = min(int(at), len(_SCALE) - 2)
    red, green, blue = (round(a + (b - a) * (at - low)) for a, b in zip(_SCALE[low], _SCALE[low + 1], strict=True))
    return f"rgb({red},{green},{blue})", "#000" if 0.299 * red + 0.587 * green + 0.114 * blue > 120 else "#fff"


def heat_map(rows: str, columns: str, row_levels: Sequence[str], column_levels: Sequence[str], mean: Mapping[tuple[str, str], float],
             n: Mapping[tuple[str, str], int], smaller_is_better: bool) -> str:
    finite = [value for value in mean.values() if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    head = "".join(f'<th scope="col">{html.escape(level)}</th>' for level in column_levels)
    lines = []
    for row in row_levels:
        cells = []
        for column in column_levels:
            value = mean.get((row, column))
            if value is None or not math.isfinite(value):
                cells.append('<td title="no result">–</td>')
                continue
            share = 0.5 if high == low else (value - low) / (high - low)
            background, ink = _colour(1 - share if smaller_is_better else share)
            cells.append(f'<td title="n = {n.get((row, column), 0)}" style="background:{background};color:{ink};text-align:center">'
                         f"{number(value)}</td>")
        lines.append(f'<tr><th scope="row">{html.escape(row)}</th>{"".join(cells)}</tr>')
    return (f"<table><thead><tr><th>{html.escape(rows)} ↓ {html.escape(columns)} →</th>{head}</tr></thead>"
            f"<tbody>{''.join(lines)}</tbody></table>")


def page(document: str) -> str:
    """A whole HTML page inside a notebook, apart from it: no script of it runs, and its styles stay inside."""
    return f'<iframe sandbox srcdoc="{html.escape(document)}" style="width:100%;height:40em;border:1px solid #ccc"></iframe>'


def preformatted(text: str) -> str:
    return f"<pre>{html.escape(text)}</pre>"

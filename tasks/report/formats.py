"""Numbers as a person reads them."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
NONE = "–"


def number(value: float | None, digits: int = 3) -> str:
    """Write with `digits` significant digits, grouped.

    >>> number(12345.678), number(0.0123456), number(1.5), number(None)
    ('12,346', '0.0123', '1.5', '–')
    """
    if value is None:
        return NONE
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite"
    if value and abs(value) < 1e-4:
        return f"{value:.{digits - 1}e}"
    if abs(value) >= 10 ** (digits - 1) or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def size(n_bytes: float | None) -> str:
    """Write bytes in decimal units.

    >>> size(999), size(157_700_000), size(None)
    ('999 B', '158 MB', '–')
    """
    if n_bytes is None:
        return NONE
    for unit in ("B", "kB", "MB", "GB"):
        if abs(n_bytes) < 999.5:
            return f"{number(n_bytes)} {unit}"
        n_bytes /= 1000
    return f"{number(n_bytes)} TB"


def duration(seconds: float) -> str:
    """Write seconds.

    >>> duration(0.25), duration(75), duration(7262)
    ('0.25 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 59.5:
        return f"{number(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def count(n: int, noun: str) -> str:
    """Write a number with its noun.

    >>> count(1, "frame"), count(2000, "frame")
    ('1 frame', '2,000 frames')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """List nested settings as dotted names with their values in JSON.

    >>> flat({"resize": {"rows": 512, "mode": "mean"}, "seed": None})
    [('resize.rows', '512'), ('resize.mode', 'mean'), ('seed', 'null')]
    """
    rows = []
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            rows += flat(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
            rows.append((f"{prefix}{key}", text))
    return rows


def capped(items: Sequence[T], limit: int, noun: str) -> tuple[Sequence[T], str]:
    """Keep the first `limit` items, and say so.

    >>> capped([1, 2, 3], 2, "curve")
    ([1, 2], 'Shown are the first 2 of 3 curves.')
    """
    note = f"Shown are the first {limit:,} of {count(len(items), noun)}." if len(items) > limit else ""
    return items[:limit], note

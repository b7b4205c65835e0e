"""What all pages share: one HTML file that opens offline and fetches nothing, written whole or not at all."""

import base64
import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tasks.report.markup import Markup, clean, element
from tasks.report.style import CSS


def document(title: str, body: Sequence[str], scripts: Sequence[str] = (), refresh: str | None = None) -> str:
    """A page of elements, with scripts behind them.

    refresh: "5" shows the page anew after 5 s; "0; url=name.html" another one at once.
    """
    parts = [*body, *(element("script", Markup(script)) for script in scripts)]
    return f"<!DOCTYPE html>\n{element('html', _head(title, scripts, refresh), element('body', *parts), lang='en')}\n"


def section(name: str, title: str, inner: Markup) -> Markup:
    """A part of a page under a heading."""
    return element("section", element("h2", title, id=f"{name}-title"), inner, id=name, aria_labelledby=f"{name}-title")


def write_document(page: str, path: str | Path) -> Path:
    """Write a page whole or not at all: whoever opens the path sees the old one or the new one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(page.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        # mkstemp allows the owner only; a report is for everybody whom the folder lets in.
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def _head(title: str, scripts: Sequence[str], refresh: str | None) -> Markup:
    # The browser itself refuses to fetch anything, and to run any script but these.
    hashes = " ".join(f"'{_hash(script)}'" for script in scripts)
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {hashes}; base-uri 'none'"
    return element(
        "head",
        element("meta", charset="utf-8"),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", http_equiv="refresh", content=refresh) if refresh else "",
        element("title", clean(title)),
        element("style", Markup(CSS)),
    )


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()

"""Build HTML in which every text is escaped unless it was built here."""

import html
from collections.abc import Iterable, Sequence

VOID = frozenset({"br", "img", "input", "link", "meta", "source"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def clean(text: str) -> str:
    r"""Show what cannot be seen or written (undecodable bytes in file names, control characters) as escapes.

    >>> print(clean("bad\udcff name\x00"))
    bad\udcff name\x00
    """
    if text.isascii() and text.isprintable():
        return text  # most texts, and all pictures
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def escape(text: str) -> Markup:
    """Make a text safe to stand between tags or in a quoted attribute; `Markup` passes unchanged.

    >>> escape('<b> & "c"')
    '&lt;b&gt; &amp; &quot;c&quot;'
    """
    return text if isinstance(text, Markup) else Markup(html.escape(clean(text), quote=True))


def join(parts: Iterable[str]) -> Markup:
    """Put parts one after the other."""
    return Markup("".join(escape(part) for part in parts))


def element(tag: str, /, *children: str, **attributes: str | float | bool | None) -> Markup:
    """Make an element. Attributes None or False are left out; `class_` is class, `data_x` is data-x.

    >>> element("p", "1 < 2", class_="note", hidden=True, id=None)
    '<p class="note" hidden>1 &lt; 2</p>'
    """
    written = ""
    for key, value in attributes.items():
        attribute = key.rstrip("_").replace("_", "-")
        if value is True:
            written += f" {attribute}"
        elif value is not None and value is not False:
            written += f' {attribute}="{escape(str(value))}"'
    if tag in VOID:
        return Markup(f"<{tag}{written}>")
    return Markup(f"<{tag}{written}>{join(children)}</{tag}>")


def table(caption: str, columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]]) -> Markup:
    """Make a table; `columns` are (header, CSS class) and the first one names its row."""
    heads = join(element("th", text, scope="col", class_=css or None) for text, css in columns)
    body = []
    for row in rows:
        cells = [element("th", row[0], scope="row", class_=columns[0][1] or None)]
        cells += [element("td", cell, class_=css or None) for cell, (_, css) in zip(row[1:], columns[1:], strict=True)]
        body.append(element("tr", *cells))
    made = element(
        "table", element("caption", caption), element("thead", element("tr", heads)), element("tbody", *body)
    )
    return element("div", made, class_="scroll")

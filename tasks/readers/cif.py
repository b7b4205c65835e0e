"""Text of a CBF header: CIF names and values, and the section that introduces the binary part."""

import re

_TOKEN = re.compile(
    r"""^;(?P<text>.*?)^;                          # text field: whole lines between two semicolons
      | (?P<comment>(?<!\S)\#[^\n]*)
      | '(?P<single>[^'\n]*(?:'(?=\S)[^'\n]*)*)'   # a quote ends where white space follows
      | "(?P<double>[^"\n]*(?:"(?=\S)[^"\n]*)*)"
      | (?P<bare>\S+)""",
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)
_FIELD = re.compile(r'^([A-Za-z][\w-]*):[ \t]*"?([^"\r\n;]*)"?', re.MULTILINE)
_CONVERSIONS = re.compile(r'conversions="?([\w-]+)"?')


def cif_values(text: str) -> dict[str, str]:
    """Every named value of a CIF text; the columns of a `loop_` are joined by commas.

    >>> cif_values("data_x\\n_a.b 'one two'\\nloop_\\n_c.x\\n_c.y\\n1 2\\n3 4\\n_d\\n;\\nlong\\n;\\n")
    {'_a.b': 'one two', '_c.x': '1, 3', '_c.y': '2, 4', '_d': 'long'}
    """
    values: dict[str, list[str]] = {}
    names: list[str] = []
    position = 0
    in_loop = reading_names = False
    for match in _TOKEN.finditer(text):
        kind, token = match.lastgroup, match.group(match.lastgroup or 0)
        if kind == "comment":
            continue
        word = token.lower() if kind == "bare" else ""
        if word.startswith(("data_", "save_", "loop_")):
            in_loop = reading_names = word == "loop_"
            names = []
        elif word.startswith("_"):
            if not reading_names:
                names, in_loop = [], False
            names.append(token)
            position = 0
        elif names:
            reading_names = False
            values.setdefault(names[position % len(names)], []).append(token.strip())
            position += 1
            if not in_loop:
                names = []
    return {name: ", ".join(items) for name, items in values.items()}


def section_fields(text: str) -> dict[str, str]:
    """The `Name: value` lines that stand before the binary part, with `conversions` of the content type."""
    fields = {name: value.strip() for name, value in _FIELD.findall(text)}
    conversions = _CONVERSIONS.search(text)
    if conversions:
        fields["conversions"] = conversions[1]
    return fields

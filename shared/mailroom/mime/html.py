"""Text of HTML, for mails that have no other.

Invariant: at most `LONGEST` characters are looked at, and no table becomes a grid: one long cell
beside many rows would make a grid of gigabytes, and mails use tables for layout anyway.
"""

import re
from typing import Final

import turbohtml

LONGEST: Final = 1_000_000  # characters

_ROW = re.compile(
    r"<(/?)(?:table|tbody|thead|tfoot|tr|caption|colgroup|col)(?=[\s/>])", re.IGNORECASE
)
_CELL = re.compile(r"<(/?)t[dh](?=[\s/>])", re.IGNORECASE)
_BLANK_LINES = re.compile(r"\n(?:[ \t\xa0]*\n){2,}")
_AT_LINE_END = re.compile(r"[ \t\xa0]+$", re.MULTILINE)
_STYLE: Final = turbohtml.PlainText(layout="strict", images=True)


def text_of(html: str) -> str:
    """What a person reads in `html`: a line for a block or table row, no tags, no addresses."""
    flat = _CELL.sub(r" <\1span", _ROW.sub(r"<\1div", html[:LONGEST]))
    text = turbohtml.parse(flat, positions=False).to_text(_STYLE)
    return _BLANK_LINES.sub("\n\n", _AT_LINE_END.sub("", text)).strip("\n")

"""Text of HTML, for mails that have no other.

Invariant: at most `LONGEST` characters are looked at, and no table becomes a grid: one long cell
beside many rows would make a grid of gigabytes, and mails use tables for layout anyway.
"""

import re
from typing import Final

import turbohtml

LONGEST: Final = 1_000_000  # characters

_MARK: Final = "\ue000"  # of private use: where a block of no margin begins or ends
_BLOCK = re.compile(
    r"<(/?)(?:div|table|tbody|thead|tfoot|tr|caption|colgroup|col|center|section|article|header"
    r"|footer|main|form|fieldset|address)(?=[\s/>])",
    re.IGNORECASE,
)
_CELL = re.compile(r"<(/?)t[dh](?=[\s/>])", re.IGNORECASE)
_BLANK_LINES = re.compile(r"\n{3,}")
_STYLE: Final = turbohtml.PlainText(layout="strict", images=True)


def text_of(html: str) -> str:
    """What a person reads in `html`: a line for a block or table row, no tags, no addresses.

    The renderer puts a blank line between any two blocks; a browser does so for paragraphs, and
    mail programs write a line of text as a `div`. So these become marks, and marks a line end.
    """
    source = html[:LONGEST].replace(_MARK, "")
    flat = _CELL.sub(r" <\1span", _BLOCK.sub(rf"{_MARK}<\1span", source))
    text = turbohtml.parse(flat, positions=False).to_text(_STYLE)
    joined = _joined(text[:LONGEST].split(_MARK))
    lines = "\n".join([line.rstrip(" \t") for line in joined.split("\n")])
    return _BLANK_LINES.sub("\n\n", lines).strip("\n")


def _joined(blocks: list[str]) -> str:
    """Blocks a line apart, or a blank line where the renderer put one."""
    if len(blocks) == 1:
        return blocks[0]
    joined: list[str] = []
    blank = False
    for block in blocks:
        bare = block.strip(" \t\n")
        if not bare:
            blank = blank or "\n" in block  # an empty line is written <div><br></div>
            continue
        before, _, after = block.partition(bare)
        blank = blank or "\n\n" in before
        joined += ["\n\n" if blank else "\n", bare]
        blank = "\n\n" in after
    return "".join(joined)

"""What is measured, as a table for people and a list for machines."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Aim:
    """What a row is to reach."""

    of: Literal["ours", "ratio"]
    bound: float
    at_most: bool = False

    def __str__(self) -> str:
        sign, of = "≤" if self.at_most else "≥", "ratio " if self.of == "ratio" else ""
        return f"{of}{sign} {self.bound:g}"


@dataclass(frozen=True)
class Row:
    """One figure of ours, beside the bare library's in the same run where there is one."""

    name: str
    ours: float
    unit: str
    bare: float | None = None
    aim: Aim | None = None
    cpu: Mapping[str, float] = field(default_factory=dict)
    """Milliseconds of processor time a mail, by process."""
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours by the bare library's."""
        return self.ours / self.bare if self.bare else None

    @property
    def holds(self) -> bool | None:
        """Whether the aim is reached, where there is one."""
        if self.aim is None:
            return None
        got = self.ours if self.aim.of == "ours" else self.ratio or 0.0
        return got <= self.aim.bound if self.aim.at_most else got >= self.aim.bound


def table(rows: Sequence[Row]) -> str:
    """Lines of a Markdown table."""
    head = "| name | ours | bare | ratio | unit | aim | | CPU ms a mail |"
    return "\n".join([head, "|---|---:|---:|---:|---|---|---|---|", *map(_line, rows)])


def _line(row: Row) -> str:
    cpu = ", ".join(f"{name} {ms:.2f}" for name, ms in row.cpu.items() if ms >= 0.005)
    if len(row.cpu) > 1:
        cpu += f"; together {sum(row.cpu.values()):.2f}"
    holds = {None: "", True: "reached", False: "missed"}[row.holds]
    cells = [
        row.name,
        _number(row.ours),
        _number(row.bare),
        _number(row.ratio),
        row.unit,
        str(row.aim or ""),
        holds,
        " ".join(filter(None, [cpu, row.note])),
    ]
    return f"| {' | '.join(cells)} |"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def write(rows: Sequence[Row], path: Path) -> None:
    """A JSON list of {name, ours, bare, ratio, unit}."""
    path.parent.mkdir(parents=True, exist_ok=True)
    told = [
        {"name": row.name, "ours": row.ours, "bare": row.bare, "ratio": row.ratio, "unit": row.unit}
        for row in rows
    ]
    path.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")

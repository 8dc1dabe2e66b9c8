"""`mailroom settings`: the reference of all settings, made from the models that read them.

Invariant: docs/settings.md is what this prints. Nothing is said of a setting that its model does
not say: meaning and unit, default, bounds.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import click
from pydantic_settings import BaseSettings

from mailroom.service import Service, named
from mailroom.settings import CommonSettings, OwnerSettings, ServiceSettings

_INTRODUCTION = """\
# Settings

Settings are environment variables, read once at start. What is wrong with them, or with a file that
they name, is told all at once, before anything starts: variable, value, remedy; exit code 2.

This page is made from the code: `mailroom settings > docs/settings.md`."""

_CHOICES = re.compile(r"\^\((\w+(?:\|\w+)+)\)\$")


@click.command("settings")
def settings_command() -> None:
    """Print the reference of all settings. As Markdown: variable, meaning, default, bounds."""
    click.echo(reference(named(["all"])))


def reference(services: Sequence[Service[Any]]) -> str:
    """Markdown: a table for what every process reads, and for each service's own settings."""
    common = list(ServiceSettings.model_fields)
    every = _rows(ServiceSettings, "MAILROOM_<SERVICE>_")
    tables = [
        _table("Every process", _rows(CommonSettings)),
        _table("Every service, under its own prefix", every),
    ]
    for service in services:
        own = _rows(service.settings, leaving_out=common)
        tables.append(_table(service.name, own))
    tables.append(_table("`mailroom migrate` and `mailroom topology`", _rows(OwnerSettings)))
    return "\n\n".join([_INTRODUCTION, *filter(None, tables)])


def _table(title: str, rows: Iterator[str]) -> str:
    """Empty without rows: a service may have no settings of its own."""
    told = list(rows)
    head = ["| variable | meaning | default | bounds |", "|---|---|---|---|"]
    return "\n".join([f"## {title}", "", *head, *told]) if told else ""


def _rows(
    settings: type[BaseSettings], prefix: str = "", leaving_out: Sequence[str] = ()
) -> Iterator[str]:
    schema = settings.model_json_schema()
    prefix = prefix or settings.model_config.get("env_prefix", "")
    for name, field in schema["properties"].items():
        if name in leaving_out:
            continue
        default = "required" if name in schema.get("required", ()) else _value(field.get("default"))
        meaning = field.get("description", "").removesuffix("; required")
        cells = f"`{prefix}{name.upper()}`", _escaped(meaning), default, _bounds(field)
        yield f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """As text in a cell: `<service>` is no element of HTML there, and `|` no border."""
    return re.sub(r"[<|]", r"\\\g<0>", text)


def _value(default: object) -> str:
    if default is None or default == "":
        return "none"
    if isinstance(default, float):
        return f"`{default:g}`"
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def _bounds(field: dict[str, Any]) -> str:
    if choices := _CHOICES.fullmatch(field.get("pattern", "")):
        return ", ".join(choices[1].split("|"))
    lowest, highest = field.get("minimum"), field.get("maximum")
    if lowest is not None and highest is not None:
        return f"{lowest:g} to {highest:g}"
    told = [
        f"{lowest:g} or more" if lowest is not None else "",
        f"more than {field['exclusiveMinimum']:g}" if "exclusiveMinimum" in field else "",
        f"{highest:g} at most" if highest is not None else "",
    ]
    return ", ".join(filter(None, told))

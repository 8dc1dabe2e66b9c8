import shlex
from pathlib import Path

from tests.directory.conftest import Mailroom

README = Path(__file__).parents[2] / "services" / "directory" / "README.md"
ELSEWHERE = {"migrate", "serve"}
"""Commands of other parts, which their own tests run."""


def commands() -> list[list[str]]:
    text = README.read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.startswith("    mailroom ")]
    return [shlex.split(line)[1:] for line in lines]


def test_every_command_of_the_readme_works(mailroom: Mailroom, tmp_path: Path) -> None:
    mailroom("user", "add", "anna")
    mailroom("user", "add", "ben")
    told = [command for command in commands() if command[0] not in ELSEWHERE]
    assert len(told) >= 8
    for command in told:
        # Only where a server would be needed, and a folder that is ours to write.
        arguments = [part.replace("/etc/mailroom", str(tmp_path)) for part in command]
        if command[:2] == ["account", "add"]:
            arguments += ["--no-test", "--password-stdin"]
        mailroom(*arguments, stdin="hunter2")
    assert mailroom.shows("account", "service")["publishers"] == ["erp"]

"""A terminal in which a reader follows a page, block by block.

Invariant: a block runs in bash as it stands on its page, but for what `replaced` names: hosts,
folders and a person's typing, and nothing of what a command does. Variables and the folder last
from block to block. What does not end as the page says fails with page, line and output.
"""

import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local import Servers
from deploy.local.operating import Operated, served
from tests.docs.pages import ROOT, Block

WITHIN = 120.0
"""Seconds for a block, on a busy machine."""

_SERVE = re.compile(r"mailroom serve (.+)")
_ENDS_WITH = re.compile(r"(.+?)\s+# ends with (\d+)")


class BlockFailed(AssertionError):
    """A block of a page did not end as the page says."""

    def __init__(self, block: Block, said: str) -> None:
        super().__init__(f"{block.place}\n{block.text}\n{said}")
        self.block = block


@dataclass
class Terminal:
    """A reader's shell."""

    servers: Servers
    environment: dict[str, str]
    replaced: Sequence[tuple[str, str]]
    """Regular expressions, and what stands there instead."""
    serving: dict[str, ExitStack] = field(default_factory=dict)
    """What `mailroom serve` started, by the port of its probes."""

    @property
    def folder(self) -> Path:
        """Where the reader is."""
        return Path(self.environment["PWD"])

    def follow(self, block: Block) -> None:
        """Do what a block says. Raises BlockFailed."""
        script: list[str] = []
        for line in self.replace(block.text).splitlines():
            if line.startswith("make"):
                _expect_target(block, line)
            elif serve := _SERVE.fullmatch(line):
                self._run(block, script)
                script = []
                self._serve(serve[1])
            else:
                script.append(_with_its_code(line))
        self._run(block, script)

    def replace(self, text: str) -> str:
        """A block's text, a command a line, with the servers and folders of this test."""
        text = text.replace("\\\n", " ")
        for pattern, instead in self.replaced:
            text = re.sub(pattern, instead, text, flags=re.MULTILINE)
        return text

    def _run(self, block: Block, script: Sequence[str]) -> None:
        state = self.folder / f".after-{block.line}"
        lines = [
            "set -eo pipefail",
            "trap 'echo \"ended with $?: $BASH_COMMAND\" >&2' ERR",
            *script,
            f"env -0 > {state}",
        ]
        try:
            done = subprocess.run(
                ["bash", "-c", "\n".join(lines)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=self.folder,
                env=self.environment,
                timeout=WITHIN,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            raise BlockFailed(block, f"not ended within {WITHIN:g} s: {late.output!r}") from None
        if done.returncode:
            raise BlockFailed(block, done.stdout)
        entries = state.read_text().rstrip("\0").split("\0")
        state.unlink()
        self.environment = dict(entry.split("=", 1) for entry in entries)

    def _serve(self, names: str) -> None:
        """Serve until the reader leaves, or serves something else at the same port."""
        port = self.environment["MAILROOM_HTTP"]
        if before := self.serving.pop(port, None):
            before.close()
        operated = Operated(self.servers, Path(self.environment["HOME"]), self.environment)
        stays = ExitStack()
        stays.enter_context(served(operated, *names.split()))
        self.serving[port] = stays

    def leave(self) -> None:
        """End what was served."""
        while self.serving:
            self.serving.popitem()[1].close()


def _with_its_code(line: str) -> str:
    """A line that says `# ends with 2` must; any other ends with 0, or bash stops."""
    said = _ENDS_WITH.fullmatch(line)
    return f"code=0; {{ {said[1]}\n}} || code=$?; [ $code = {said[2]} ]" if said else line


def _expect_target(block: Block, line: str) -> None:
    """`make …` is not done here, but must be something that make could do."""
    words = shlex.split(line, comments=True)
    said = subprocess.run(
        [*words, "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if said.returncode:
        raise BlockFailed(block, said.stderr)


def plain_environment(folder: Path, **more: str) -> dict[str, str]:
    """What a fresh terminal has: none of the variables of whoever runs the tests."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PWD": str(folder),
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
        **more,
    }

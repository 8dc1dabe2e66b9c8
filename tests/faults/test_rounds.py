"""Random rounds: mails pour in while plugs are pulled, and in the end all is as it must be.

A round is its seed: what is written, what fails and in which order. `make test-long` with
ROUNDS=1 and SEED=7 plays round 7 again; how long a thing takes is the machine's own, so that no
two are quite alike.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from email.message import EmailMessage

import pytest

from deploy import local
from deploy.local import guarded, mail_programs
from deploy.local.operating import Operated
from tests.faults.conftest import exposed_firm
from tests.faults.disturbances import ANY, WHILE_NOTHING_IS_BROUGHT, Scene, disturbed
from tests.faults.firm import PATIENCE, Firm
from tests.faults.lines import OwnServers
from tests.faults.mails import Dialogue, check, mixed, open_ticket
from tests.faults.nursery import Nursery
from tests.waiting import NotInTime, until

SEED = int(os.environ.get("MAILROOM_SEED", "1"))
ROUNDS = int(os.environ.get("MAILROOM_ROUNDS", "1"))
BURSTS = 6
A_SECOND = 2
"""Mails that a slow machine finishes, where a mail server's absence has held up all of them."""
CHAPTER = 10
"""Rounds that share a database; in a larger one, looking takes longer than what is looked at."""


@dataclass
class Chapters:
    """The firm of the present chapter, and the dialogue that goes on through it."""

    own: OwnServers
    shared: Operated
    born: Nursery
    held: ExitStack = field(default_factory=ExitStack)
    number: int = 0
    played: int = CHAPTER
    firm: Firm | None = None
    older: Dialogue | None = None

    def turn(self) -> Firm:
        """The firm of the next round."""
        if self.firm is None or self.played == CHAPTER:
            self.held.close()
            # Postfix may hold connections yet to a Dovecot that was ended, and refuse to log in.
            local.stop(self.own.servers, "postfix")
            local.start(self.own.servers, "postfix")
            self.number, self.played, self.older = self.number + 1, 0, None
            self.firm = self.held.enter_context(
                exposed_firm(self.own, self.shared, f"chapter_{self.number}", self.born)
            )
        self.played += 1
        return self.firm


@pytest.fixture(scope="module")
def chapters(own: OwnServers, own_installation: Operated, born: Nursery) -> Iterator[Chapters]:
    """Firms on this worker's own servers."""
    made = Chapters(own, own_installation, born)
    yield made
    own.heal()
    made.held.close()


@pytest.fixture
def turned(chapters: Chapters) -> Firm:
    """The firm of this round."""
    return chapters.turn()


@pytest.fixture
async def scene(chapters: Chapters, turned: Firm) -> AsyncIterator[Scene]:
    """With a dialogue that goes on through the chapter; mended behind each round."""
    turned.start_missing()
    if chapters.older is None:
        chapters.older = await open_ticket(turned)
    made = Scene(turned, chapters.own)
    yield made
    made.mend()


async def test_a_round_of_chance_loses_doubles_and_hides_nothing(
    chapters: Chapters, scene: Scene, mails: int
) -> None:
    await _play(chapters, scene, count=mails, seed=SEED)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(SEED, SEED + ROUNDS))
async def test_three_hundred_mails_are_one_ticket_each(
    chapters: Chapters, scene: Scene, seed: int
) -> None:
    await _play(chapters, scene, count=300, seed=seed)


async def _play(chapters: Chapters, scene: Scene, count: int, seed: int) -> None:
    assert chapters.older
    scene.random.seed(seed)
    post = await mixed(scene.firm, chapters.older, count, seed)
    size = len(post.messages) // BURSTS + 1
    # A chapter ends with the round that fails: what comes after must not suffer from it.
    played, chapters.played = chapters.played, CHAPTER
    for start in range(0, len(post.messages), size):
        with disturbed(scene, ANY):
            await _bring(scene.firm, post.messages[start : start + size])
            await _a_while(scene)
        with disturbed(scene, WHILE_NOTHING_IS_BROUGHT):
            await _a_while(scene)
    print(f"seed {seed}:", *scene.story, sep="\n  ")
    scene.mend()
    await check(scene.firm, post, chapters.older, within=max(PATIENCE, count / A_SECOND))
    chapters.played = played


async def _bring(firm: Firm, messages: Sequence[EmailMessage]) -> None:
    def post_all() -> None:
        for message in messages:
            mail_programs.post(firm.it.servers, message)

    await asyncio.to_thread(post_all)


async def _a_while(scene: Scene) -> None:
    """Until so and so much was done, or two seconds if nothing gets on."""
    enough = _said(scene.firm) + scene.random.randrange(100_000)
    with suppress(NotInTime):
        await until(lambda: _said(scene.firm) >= enough, within=2)


def _said(firm: Firm) -> int:
    """Bytes in the logs of all services."""
    logs = [process.guard.folder / guarded.LOG for process in firm.processes.values()]
    return sum(log.stat().st_size for log in logs if log.exists())

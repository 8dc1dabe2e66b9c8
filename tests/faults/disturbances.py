"""What can fail by chance, for as long as a `with` block lasts, and what mends it.

Invariant: whatever was disturbed works again behind the block, or when the scene is mended.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random

from deploy import local
from tests.faults.firm import Firm
from tests.faults.lines import OwnServers
from tests.faults.proxy import Proxy
from tests.faults.test_kills import KILLS
from tests.faults.traps import client, server
from tests.installation import service_names


@dataclass
class Scene:
    """Where it happens, what chooses, and what happened so far."""

    firm: Firm
    own: OwnServers
    random: Random = field(default_factory=Random)
    story: list[str] = field(default_factory=list)
    armed: set[str] = field(default_factory=set)
    """Services that will die at a crashpoint, if they come to it."""

    def mend(self) -> None:
        """All servers, lines and services are there, and no service will die any more."""
        self.own.heal()
        for name in self.armed:
            self.firm.end(name, "stop")
        self.armed.clear()
        self.firm.start_missing()


Disturbance = Callable[[Scene], AbstractContextManager[str]]


@contextmanager
def disturbed(scene: Scene, kinds: Sequence[Disturbance]) -> Iterator[None]:
    """None, one or two of these at once."""
    chosen = scene.random.sample(kinds, scene.random.choice([0, 1, 1, 1, 2]))
    # The last is mended first: Postfix greets nobody while Dovecot is away.
    chosen.sort(key=kinds.index, reverse=True)
    with ExitStack() as held:
        scene.story += [held.enter_context(kind(scene)) for kind in chosen]
        yield


@contextmanager
def _dies_at_a_step(scene: Scene) -> Iterator[str]:
    name = scene.random.choice(sorted(KILLS))
    crashpoint = scene.random.choice(KILLS[name])
    scene.firm.start(name, crashpoint)
    scene.armed.add(name)
    yield f"{name} dies at {crashpoint}"


@contextmanager
def _ends(scene: Scene) -> Iterator[str]:
    name, how = scene.random.choice(service_names()), scene.random.choice(["stop", "kill"])
    scene.firm.end(name, how)
    scene.armed.discard(name)
    yield f"{name}: {how}"
    scene.firm.start(name)


@contextmanager
def _stands_still(scene: Scene) -> Iterator[str]:
    name = scene.random.choice(sorted({*service_names()} - scene.armed))
    scene.firm.start_missing()
    scene.firm.freeze(name)
    yield f"{name}: freeze"
    scene.firm.thaw(name)


def _server(name: local.ServerName) -> Disturbance:
    @contextmanager
    def fails(scene: Scene) -> Iterator[str]:
        how = scene.random.choice([local.stop, local.kill, local.freeze])
        how(scene.own.servers, name)
        yield f"{name}: {how.__name__}"
        if how is local.freeze:
            local.thaw(scene.own.servers, name)
        else:
            local.start(scene.own.servers, name)

    return fails


_LINE: dict[str, Callable[[Proxy, Random], object]] = {
    "reset": lambda line, _: line.reset(),
    "refuse": lambda line, _: line.refuse(),
    "blackhole": lambda line, _: line.blackhole(),
    "forget": lambda line, _: line.forget(),
    "delay": lambda line, random: line.delay(random.uniform(0.001, 0.1)),
    "rate": lambda line, random: line.rate(random.uniform(1e5, 1e7)),
    "cut, client": lambda line, random: line.cut_after(client(), then=random.randrange(20_000)),
    "cut, server": lambda line, random: line.cut_after(server(), then=random.randrange(20_000)),
    "mute": lambda line, _: line.swallow_answer(client()),
}


@contextmanager
def _line_fails(scene: Scene) -> Iterator[str]:
    name = scene.random.choice(sorted(local.ALL))
    how, line = scene.random.choice(list(_LINE)), scene.own.proxy_of(name)
    _LINE[how](line, scene.random)
    yield f"line to {name}: {how}"
    line.heal()


@contextmanager
def _time_passes(scene: Scene) -> Iterator[str]:
    by = timedelta(seconds=scene.random.choice([20, 600, 7200]))
    scene.firm.pass_time(by)
    yield f"{by} pass"


ANY: Sequence[Disturbance] = [
    *[_dies_at_a_step] * 4,
    *[_ends] * 2,
    _stands_still,
    *[_line_fails] * 4,
    _server("rabbitmq"),
    *[_server("postgresql")] * 2,
    _time_passes,
]
WHILE_NOTHING_IS_BROUGHT: Sequence[Disturbance] = [
    *ANY,
    *[_server("dovecot")] * 2,
    *[_server("postfix")] * 2,
]

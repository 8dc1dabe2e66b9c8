"""A service that is asked to stop ends in time, with what it has in hand settled or given back:
every mail is one ticket all the same, nothing is sent twice, and nothing is unknown for it."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from email.message import EmailMessage
from itertools import product
from pathlib import Path
from random import Random
from signal import SIGINT, SIGTERM

import pytest

from deploy import local
from deploy.local import guarded, mail_programs
from tests.faults.firm import PATIENCE, Firm
from tests.faults.lines import OwnServers
from tests.faults.looking import ticket_numbers
from tests.faults.mails import Dialogue, Post, check, mixed
from tests.faults.outages import are_ready, number, older_ticket
from tests.faults.processes import Stop, assert_in_order, stop
from tests.faults.readiness import logged
from tests.installation import service_names
from tests.waiting import until

SEED = int(os.environ.get("MAILROOM_SEED", "1"))
HOUR = timedelta(hours=1)
MAILS_A_STOP = 6
DIVISIONS = {"each": service_names(), "all": ["all"]}
"""A process for each service, or one for all."""
matrix = pytest.mark.matrix


@contextmanager
def divided(firm: Firm, division: str) -> Iterator[list[str]]:
    """The firm works in these processes."""
    names = DIVISIONS[division]
    for other in set(firm.processes) - set(names):
        firm.end(other)
    for name in names:
        if name not in firm.processes:
            firm.start(name)
    yield names
    for name in set(names) - set(service_names()):
        firm.end(name)


def lines(firm: Firm) -> int:
    """How much all services have said."""
    logs = (process.guard.folder / guarded.LOG for process in firm.processes.values())
    return sum(log.read_bytes().count(b"\n") for log in logs)


def bring(firm: Firm, messages: Sequence[EmailMessage]) -> None:
    for message in messages:
        mail_programs.post(firm.it.servers, message)


@pytest.fixture
async def patient(healed: Firm) -> AsyncIterator[Firm]:
    """With a sender that waits for slow servers as long as RFC 5321 asks it to, and whose leases a
    busy machine does not take away: what is then unknown is so for a stop."""
    before = healed.it
    slow = {"DATA_SECONDS": "600", "ANSWER_SECONDS": "300", "LEASE_SECONDS": "15"}
    patience = {f"MAILROOM_SENDER_{name}": value for name, value in slow.items()}
    healed.it = replace(before, environment={**before.environment, **patience})
    healed.start("sender")
    await are_ready(healed)
    yield healed
    healed.it = before
    healed.start("sender")


UNDER_LOAD = [
    ("each", 3),
    pytest.param("each", 50, marks=matrix),
    pytest.param("all", 10, marks=matrix),
]


@pytest.mark.parametrize(("division", "count"), UNDER_LOAD)
async def test_stopped_at_any_moment_under_load_it_ends_in_time_and_nothing_is_unknown(
    patient: Firm, opened: list[Dialogue], division: str, count: int
) -> None:
    print(f"seed {SEED}")
    random, stops = Random(SEED), []  # noqa: S311 -- a seed repeats it
    with divided(patient, division) as names:
        async with older_ticket(patient, opened) as older:
            post = await mixed(patient, older, count * MAILS_A_STOP, SEED)
            waiting = list(post.messages)
            for turn in range(count):
                some = [waiting.pop() for _ in range(MAILS_A_STOP)]
                name = names[turn % len(names)]
                stops.append(await stopped_meanwhile(patient, name, some, random.randrange(60)))
                patient.start(name)
                await are_ready(patient)
            bring(patient, waiting)
            assert_in_order(stops)
            there = await check(patient, post, older)
            assert there.doubtful == {}, logged(patient, "sender", "mail_tried")


async def stopped_meanwhile(
    firm: Firm, name: str, messages: Sequence[EmailMessage], after: int
) -> Stop:
    """Stop a service while mails come: when all together have said so many lines more."""
    enough = lines(firm) + after
    bringing = asyncio.create_task(asyncio.to_thread(bring, firm, messages))
    await until(lambda: lines(firm) >= enough, within=PATIENCE)
    how = await stop(firm, name)
    await bringing
    return how


ALWAYS = ("rabbitmq", "frozen", "all")
WITHOUT_ANSWER = [
    pytest.param(*case, marks=() if case == ALWAYS else matrix)
    for case in product(
        ("rabbitmq", "postgresql", "dovecot", "postfix"), ("frozen", "killed"), DIVISIONS
    )
]
NOT_ASKED = {"rabbitmq", "dovecot"}
"""Without these servers, all can still be known of a mail that is being sent."""


@pytest.mark.parametrize(("server", "how", "division"), WITHOUT_ANSWER)
async def test_it_ends_in_time_though_a_server_does_not_answer(
    healed: Firm,
    own: OwnServers,
    opened: list[Dialogue],
    server: local.ServerName,
    how: str,
    division: str,
) -> None:
    disturb = {"frozen": local.freeze, "killed": local.kill}[how]
    with divided(healed, division) as names:
        async with older_ticket(healed, opened) as older:
            post = await mixed(healed, older, 15, SEED)
            enough = lines(healed) + 20
            await asyncio.to_thread(bring, healed, post.messages)
            await until(lambda: lines(healed) >= enough, within=PATIENCE)
            disturb(own.servers, server)
            stops = await asyncio.gather(*(stop(healed, name) for name in names))
            own.heal()
            assert_in_order(stops)
            for name in names:
                healed.start(name)
            there = await check(healed, post, older)
            assert server not in NOT_ASKED or there.doubtful == {}


async def test_in_the_middle_of_a_large_mail_to_a_slow_server_it_is_known_not_to_have_left(
    patient: Firm, own: OwnServers, tmp_path: Path
) -> None:
    customer, film = patient.customer(), tmp_path / "film.bin"
    film.write_bytes(Random(SEED).randbytes(15_000_000))  # noqa: S311 -- no secret
    own.smtp.rate(500_000)
    asked = {"account": "service", "to": [{"address": customer.address}]}
    text = json.dumps({**asked, "subject": "A film", "text": "See."})
    key = await asyncio.to_thread(patient.does, "send", "--attach", str(film), text=text)
    is_in = state_of(patient, key.strip())
    await until(lambda: is_in("sending"), within=PATIENCE)
    how = await stop(patient, "sender")
    assert_in_order([how])
    assert await is_in("accepted"), how.words
    own.heal()
    patient.pass_time(HOUR)
    patient.start("sender")
    await until(lambda: is_in("sent"), within=PATIENCE)
    await until(lambda: patient.headers(customer), within=PATIENCE)
    assert [str(mail["Subject"]) for mail in patient.headers(customer)] == ["A film"]


def state_of(firm: Firm, key: str) -> Callable[[str], Awaitable[bool]]:
    """Whether a request is in a state, with no try of unknown end."""
    query = """SELECT count(*) FROM sender.requests
        WHERE idempotency_key = $1 AND state = $2 AND unknowns = 0"""

    async def is_in(state: str) -> bool:
        return await number(firm, query, key, state) == 1

    return is_in


async def test_in_the_middle_of_a_large_mail_that_comes_slowly_it_is_fetched_again(
    healed: Firm, own: OwnServers, opened: list[Dialogue]
) -> None:
    async with older_ticket(healed, opened) as older:
        customer = healed.customer()
        message = mail_programs.write(customer, [healed.service.address], "A film", "See.\n")
        film = Random(SEED).randbytes(15_000_000)  # noqa: S311 -- no secret
        message.add_attachment(film, "video", "mp4", filename="film.mp4")
        post = Post(before=await ticket_numbers(healed), customers=[customer])
        post.add(message, customer)
        own.imap.rate(1_000_000)
        unfinished = Path(healed.it.environment["MAILROOM_OBJECTS"]) / "new"
        await asyncio.to_thread(bring, healed, [message])
        await until(lambda: any(unfinished.iterdir()), within=PATIENCE)
        assert_in_order([await stop(healed, "fetcher")])
        assert not any(unfinished.iterdir()), "half a mail is kept by nobody"
        own.heal()
        healed.start("fetcher")
        await check(healed, post, older)


async def test_at_rest_it_ends_at_once(healed: Firm) -> None:
    await are_ready(healed)
    assert_in_order([await stop(healed, name) for name in list(healed.processes)])


@pytest.mark.parametrize(
    "signals", [(SIGTERM, SIGTERM), (SIGINT,), pytest.param((SIGINT, SIGTERM), marks=matrix)]
)
async def test_asked_twice_or_by_ctrl_c_it_ends_as_if_asked_once(
    healed: Firm, signals: tuple[int, ...]
) -> None:
    await are_ready(healed)
    how = await stop(healed, "ticketing", *signals)
    assert_in_order([how])
    assert how.words.count('"stopping"') == 1
    assert "Traceback" not in how.words


@pytest.mark.parametrize("line", ["refuses", pytest.param("is silent", marks=matrix)])
@pytest.mark.parametrize("server", ["rabbitmq", pytest.param("postgresql", marks=matrix)])
async def test_while_it_waits_for_a_server_to_start_it_ends_at_once(
    healed: Firm, own: OwnServers, server: local.ServerName, line: str
) -> None:
    proxy, name = own.proxy_of(server), "router"
    healed.end(name)
    before = len(logged(healed, name, "listening"))
    if line == "refuses":
        proxy.refuse()
    else:
        proxy.blackhole()
    healed.start(name)
    await until(lambda: len(logged(healed, name, "listening")) > before, within=PATIENCE)
    assert_in_order([await stop(healed, name)])

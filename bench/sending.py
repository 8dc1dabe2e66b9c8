"""Sending: on one kept connection, a copy in Sent included; bare is aiosmtplib, then APPEND."""

import ssl
import statistics
import time
from datetime import UTC, datetime
from email.message import EmailMessage
from random import Random
from uuid import uuid4

import aio_pika
import aioimaplib
import aiosmtplib
import asyncpg

from bench import mails
from bench.fetching import logged_in
from bench.processor import measured
from bench.rows import Aim, Row
from bench.stage import PUBLISHER, Stage, reached, serving
from deploy.local.mail_programs import Person
from deploy.local.operating import command
from mailroom.contracts import Address, MailSend
from mailroom.messaging import topology

MAILS = 200
ROUNDS = 3
_FILED = (
    "SELECT count(*) FROM sender.copies JOIN directory.accounts_v1 AS a ON a.id = account"
    " WHERE state = 'filed' AND a.name = $1"
)


async def rows(stage: Stage) -> list[Row]:
    """One: the middle of the rounds, each with an account of its own."""
    people = [stage.person() for _ in range(ROUNDS)]
    customer = stage.person()
    for person in people:
        stage.add_account(person)
    allowed = [word for person in people for word in ("--account", person.name)]
    command(stage.it, "publisher", "add", PUBLISHER, *allowed)
    limits = {"MAILROOM_SENDER_RATE_PER_MINUTE": "100000"}
    with serving(stage, "sender", **limits), measured(stage.pids("sender")) as used:
        ours = [await _ours(stage, person, customer) for person in people]
    bare = [await _bare(stage, person, customer) for person in people]
    return [
        Row(
            "send",
            statistics.median(ours),
            "mails/s",
            statistics.median(bare),
            Aim("ratio", 0.6),
            used.each(MAILS * ROUNDS),
        )
    ]


async def _ours(stage: Stage, person: Person, customer: Person) -> float:
    watching = await asyncpg.connect(stage.database)
    url = stage.it.environment[f"{PUBLISHER.upper()}_BROKER_URL"]
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel(publisher_confirms=True)
        exchange = await channel.get_exchange(topology.EXCHANGE, ensure=False)
        began = time.perf_counter()
        for number in range(MAILS):
            await exchange.publish(_asked(person, customer, number), MailSend.name)
        await reached(watching, _FILED, MAILS, person.name)
        lasted = time.perf_counter() - began
    await watching.close()
    return MAILS / lasted


def _asked(person: Person, customer: Person, number: int) -> aio_pika.Message:
    asked = MailSend(
        idempotency_key=f"{person.name}-{number}",
        account=person.name,
        to=(Address(name="", address=customer.address),),
        subject=f"Your order {number} is on its way",
        text=_text(number),
    )
    return aio_pika.Message(
        asked.model_dump_json().encode(),
        message_id=str(uuid4()),
        type=MailSend.name,
        user_id=PUBLISHER,
        timestamp=datetime.now(UTC),
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
    )


async def _bare(stage: Stage, person: Person, customer: Person) -> float:
    context = ssl.create_default_context(cafile=stage.it.servers.ca_file)
    composed = [_composed(person, customer, number) for number in range(MAILS)]
    began = time.perf_counter()
    smtp = aiosmtplib.SMTP(
        hostname="localhost",
        port=stage.it.servers.postfix.submissions,
        use_tls=True,
        tls_context=context,
        username=person.address,
        password=person.password,
    )
    imap = await logged_in(stage, person)
    async with smtp:
        for message in composed:
            await smtp.send_message(message)
            await _append(imap, bytes(message))
    lasted = time.perf_counter() - began
    await imap.logout()
    return MAILS / lasted


async def _append(imap: aioimaplib.IMAP4_SSL, message: bytes) -> None:
    answer = await imap.append(message, "Sent", flags=r"\Seen", date=datetime.now(UTC))
    if answer.result != "OK":
        raise AssertionError(answer)


def _composed(person: Person, customer: Person, number: int) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"] = person.address, customer.address
    message["Subject"] = f"Your order {number} is on its way"
    message["Message-ID"] = f"<{uuid4()}@example.com>"
    message.set_content(_text(number))
    return message


def _text(number: int) -> str:
    """Of four kilobytes."""
    return mails.words(Random(number), 4_000)

"""Accounts and passwords change under the hands of fetcher and sender, in mid-work and while they
are down. Every mail is one ticket, and none is two."""

import asyncio
import imaplib
import json
from dataclasses import replace
from datetime import timedelta
from signal import SIGSTOP
from uuid import UUID

import pytest

from deploy import local
from deploy.local.mail_programs import Person
from mailroom.contracts import MailReceived
from tests.faults.firm import PATIENCE, Firm
from tests.faults.mails import begun, check, mixed
from tests.faults.readiness import problem_is_told
from tests.faults.stages import published
from tests.local.mail import logged_in
from tests.waiting import until


@pytest.mark.matrix
@pytest.mark.parametrize("crashpoint", ["fetcher.objects_written", "sender.sending_committed"])
async def test_an_account_that_is_disabled_in_mid_work_goes_on_where_it_stopped(
    running: Firm, crashpoint: str
) -> None:
    firm = running
    older, post = await begun(firm)
    service = crashpoint.partition(".")[0]
    # What it is asked to send when it is disabled already is refused, and told at the ticket: so
    # not the queue's account while mails are fetched, or not before all is asked for.
    disabled = firm.sales if service == "fetcher" else firm.service
    answers = sum(mail.is_acknowledged and mail.joins is None for mail in post.mails)
    place = crashpoint if service == "fetcher" else f"{crashpoint}#{answers}"
    firm.end(service)
    await firm.gets(*post.messages)
    firm.start(service, place, number=SIGSTOP)
    await firm.is_frozen(service)
    await firm.asks("account", "change", disabled.name, "--disabled")
    firm.thaw(service)
    late = await mixed(firm, older, count=10)
    await firm.gets(*late.messages)
    await firm.asks("account", "change", disabled.name, "--enabled")
    post.extend(late)
    await check(firm, post, older)


@pytest.mark.matrix
async def test_an_account_that_is_removed_and_added_again_in_mid_work_loses_nothing(
    new_firm: Firm,
) -> None:
    """What it had brought and nobody had routed yet is parked, and told; it is brought again."""
    firm = new_firm
    older, post = await begun(firm)
    start = (firm.now - timedelta(hours=1)).isoformat(timespec="seconds")
    firm.end("router")
    await firm.gets(*post.messages)
    await firm.asks("account", "fetch", firm.sales.name)
    await until(lambda: _is_fetched(firm, firm.sales), within=PATIENCE)
    await firm.asks("account", "remove", firm.sales.name)
    firm.start("router")
    imap, smtp = (url.format(user=firm.sales.address) for url in firm.mail)
    await asyncio.to_thread(
        firm.does,
        *("account", "add", firm.sales.name, "--mailbox", firm.sales.name, "--interval", "5"),
        *("--address", firm.sales.address, "--imap", imap, "--smtp", smtp, "--start", start),
        "--password-stdin",
        text=firm.sales.password,
    )
    await check(firm, post, older, parked=["was removed from the directory"])


async def _is_fetched(firm: Firm, person: Person) -> bool:
    """Whether all that lies in the person's inbox is on its way to the router."""
    there = len(firm.uids(person))
    rows = [
        MailReceived.model_validate_json(row.body)
        for row in await published(firm, "fetcher")
        if row.type == "mail.received"
    ]
    listed = await firm.asks("account", "show", person.name, "--json")
    account = UUID(json.loads(listed)["id"])
    return sum(row.account == account and row.role == "inbox" for row in rows) == there


async def test_a_password_that_was_changed_at_the_server_and_then_here_costs_no_mail(
    running: Firm,
) -> None:
    firm = running
    older, post = await begun(firm)
    for name in ("fetcher", "sender"):
        firm.end(name)
    changed = replace(firm.service, password="changed")
    local.add_mail_user(firm.it.servers, changed.address, changed.password)
    firm.service = changed
    await until(lambda: _may_log_in(firm, changed), within=PATIENCE)
    await firm.gets(*post.messages)
    firm.start_missing()
    await problem_is_told(firm, "wrong user or password")
    change = ("account", "change", changed.name, "--password-stdin")
    await asyncio.to_thread(firm.does, *change, text=changed.password)
    await check(firm, post, older)


def _may_log_in(firm: Firm, person: Person) -> bool:
    try:
        with logged_in(firm.it.servers, person.address, person.password):
            return True
    except imaplib.IMAP4.error:
        return False

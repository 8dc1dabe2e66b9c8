"""Nothing is disturbed: what the cases with faults are compared with."""

from deploy.local import mail_programs
from tests.faults.firm import PATIENCE, Firm
from tests.faults.looking import seen
from tests.faults.mails import check, mixed, open_ticket
from tests.waiting import until


async def test_every_mail_is_one_ticket_and_nothing_is_unknown(firm: Firm) -> None:
    firm.start_missing()
    older = await open_ticket(firm)
    post = await mixed(firm, older)
    await firm.gets(*post.messages)
    assert (await check(firm, post, older)).doubtful == {}


async def test_one_mail_that_is_sent_twice_is_seen_as_two(firm: Firm) -> None:
    """Else no case would notice it: what Postfix delivers twice by itself is taken for one."""
    customer = firm.customer()
    message = mail_programs.write(firm.service, [customer.address], "Once?", "Twice.\n")
    for _ in range(2):
        mail_programs.post(firm.it.servers, message)
    await until(lambda: len(firm.uids(customer)) == 2, within=PATIENCE)
    there = await seen(firm, set(), [customer])
    assert len(set(there.inboxes[customer.address])) == 2

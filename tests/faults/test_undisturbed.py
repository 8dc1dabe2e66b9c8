"""Nothing is disturbed: what the cases with faults are compared with."""

from tests.faults.firm import Firm
from tests.faults.mails import check, mixed, open_ticket


async def test_every_mail_is_one_ticket_and_nothing_is_unknown(firm: Firm) -> None:
    firm.start_missing()
    older = await open_ticket(firm)
    post = await mixed(firm, older)
    await firm.gets(*post.messages)
    assert (await check(firm, post, older)).doubtful == {}

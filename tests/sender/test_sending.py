"""A request leaves by the real Postfix, once, and its copy lies in the real Sent folder."""

from tests.sender.office import Office, to


async def test_a_request_is_sent_once_and_filed_once(office: Office) -> None:
    anna = office.mailbox()
    async with office.sending():
        key = await office.ask(to=to(anna))
        (mail,) = await office.gets(anna)
        sent = await office.tells("mail.sent")
        filed = await office.tells("mail.filed")
    assert mail["Message-ID"] == f"<{sent['message_id']}>"
    assert [one["address"] for one in sent["accepted"]] == [anna]
    assert (sent["idempotency_key"], sent["publisher"], sent["maybe_twice"]) == (key, "erp", False)
    (copy,) = await office.mails(office.address, "Sent")
    assert copy["X-Mailroom-Mail"] == sent["mail"]
    assert filed["folder"] == "Sent"
    assert filed["uid"] == 1
    assert (await office.row(key))["state"] == "sent"

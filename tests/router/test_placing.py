from uuid import uuid4

from mailroom.contracts import RoutedAttachment
from mailroom.mime import Address, Attachment
from mailroom_router.mails import Arrival, mail_id
from mailroom_router.placing import Placed, Told, news, place, routed
from tests.router.samples import (
    ALICE_ACCOUNT,
    ALICES,
    SERVICE,
    SERVICE_ACCOUNT,
    a_mail,
    a_world,
    an_arrival,
)


def placed(*arrivals: Arrival) -> list[Placed]:
    ids = {
        arrival.reading.fingerprint: mail_id(arrival.reading.fingerprint) for arrival in arrivals
    }
    return place(arrivals, ids, a_world())


def test_two_accounts_make_two_placements_of_one_mail() -> None:
    one, other = placed(an_arrival(), an_arrival(account=ALICE_ACCOUNT))
    assert one.mail == other.mail
    assert one.placement != other.placement
    assert (one.decision.mailbox, other.decision.mailbox) == (SERVICE, ALICES)
    assert news([one, other], {}) == [one, other]


def test_two_folders_of_one_account_make_one_placement_told_once() -> None:
    inbox, archive = placed(an_arrival(), an_arrival(role="archive", folder="Archive"))
    assert inbox.placement == archive.placement
    assert news([inbox, archive], {}) == [inbox, None]
    assert news([archive], {inbox.placement: inbox.told}) == [None]


def test_mail_is_out_when_it_lies_in_sent_and_in_anywhere_else() -> None:
    roles = ("inbox", "junk", "archive", "other", "sent")
    directions = [one.told.direction for one in placed(*(an_arrival(role=role) for role in roles))]
    assert directions == ["in", "in", "in", "in", "out"]


def test_a_mail_to_ourselves_is_told_as_received_whichever_copy_comes_first() -> None:
    to_self = a_mail(from_=["service@firm.example"], to=["service@firm.example"])
    inbox, sent = placed(an_arrival(to_self), an_arrival(to_self, role="sent", folder="Sent"))
    assert inbox.placement == sent.placement
    assert news([inbox, sent], {}) == [inbox, None]
    first, again = news([sent, inbox], {})
    assert first == sent
    assert again is not None
    assert (again.told.direction, again.again) == ("in", True)
    assert news([inbox], {sent.placement: Told("in", spam=False)}) == [None]


def test_junk_is_spam_and_is_told_again_when_somebody_takes_it_out() -> None:
    junk, inbox = placed(an_arrival(role="junk", folder="Junk"), an_arrival())
    assert (junk.told.spam, inbox.told.spam) == (True, False)
    first, again = news([junk, inbox], {})
    assert first == junk
    assert again is not None
    assert (again.told.spam, again.again) == (False, True)
    assert news([inbox, junk], {}) == [inbox, None]


def test_a_header_verdict_is_spam_in_any_folder() -> None:
    (one,) = placed(an_arrival(a_mail(spam=True)))
    assert one.told.spam
    assert routed(one).spam


def test_the_event_says_what_a_subscriber_needs_and_no_body() -> None:
    mail = a_mail(
        in_reply_to=("0@firm.example",),
        references=("0@firm.example",),
        from_=[Address("Eve", "eve@shop.example")],
        to=["service@firm.example"],
        delivered_to=("service@firm.example",),
        return_path="",
        tags=("[#1-abcde]",),
        auto="replied",
        text="a secret body",
        attachments=(Attachment("2", None, "image/png", 7, "inline", "logo"),),
        verdicts=(
            ("X-Spam-Flag", "NO"),
            ("Authentication-Results", "mx.firm.example; dkim=pass"),
            ("Authentication-Results", "elsewhere.example; dkim=fail"),
        ),
        defects=("bad base64 in part 2",),
    )
    arrival = an_arrival(mail, backfill=True)
    (one,) = placed(arrival)
    event = routed(one)
    assert event.routing_key() == "mail.routed.central"
    assert (event.mail, event.placement) == (one.mail, one.placement)
    assert (event.mailbox, event.account) == (SERVICE.id, SERVICE_ACCOUNT.id)
    assert event.arrival == arrival.event.arrival
    assert event.from_[0].name == "Eve"
    assert event.to[0].address == "service@firm.example"
    assert event.return_path == ""
    assert event.authentication == "mx.firm.example; dkim=pass"
    assert event.attachments == (RoutedAttachment(part="2", filename="", type="image/png", size=7),)
    assert event.backfill
    assert event.defects == ("bad base64 in part 2",)
    assert event.parsed == arrival.reading.parsed
    assert "secret" not in event.model_dump_json()


def test_a_private_mailbox_is_told_under_the_private_key() -> None:
    (one,) = placed(an_arrival(account=ALICE_ACCOUNT))
    assert routed(one).routing_key() == "mail.routed.private"


def test_a_mail_that_our_sender_named_keeps_that_id() -> None:
    ours = uuid4()
    stamped = a_mail(headers=(("X-Mailroom-Mail", str(ours)),))
    (one,) = placed(an_arrival(stamped, role="sent"))
    assert one.mail == ours

"""What ticketing has sent."""

import pytest

from mailroom_ticketing.composing import acknowledgement, answer_subject, reply
from mailroom_ticketing.known import Ticket
from mailroom_ticketing.tags import sign
from tests.ticketing.desk import NOON, RING, SALES, SERVICE, mail


def ticket(queue: object = SERVICE, subject: str = "Printer on fire") -> Ticket:
    customer = mail().customer
    return Ticket(queue, "new", customer, subject, NOON, NOON, number=17)  # type: ignore[arg-type]


@pytest.mark.parametrize("queue", [SERVICE, SALES])
def test_an_acknowledgement_names_number_and_tag_in_text_and_html(queue: object) -> None:
    send = acknowledgement(ticket(queue), mail(), RING)
    for body in (send.text, send.html):
        assert "17" in (body or "")
        assert sign(RING, 17) in (body or "")
        assert "Printer on fire" in (body or "")


def test_an_acknowledgements_key_is_made_of_the_mail_and_not_of_the_tickets_number() -> None:
    """A restored database numbers anew, and a replay must not send again."""
    first = mail()
    one, again = ticket(), ticket()
    again.number = 18
    keys = {acknowledgement(each, first, RING).idempotency_key for each in (one, again)}
    assert keys == {f"ack:{first.id}"}
    assert acknowledgement(ticket(), mail(), RING).idempotency_key not in keys


def test_an_acknowledgement_says_that_a_machine_wrote_it_and_a_reply_that_a_person_did() -> None:
    assert acknowledgement(ticket(), mail(), RING).auto == "replied"
    assert reply(ticket(), "a", (), None, RING, None).auto == "none"


def test_html_in_a_subject_is_escaped_in_html_and_left_alone_in_text() -> None:
    """Jinja2's own default escapes nothing."""
    send = acknowledgement(ticket(subject="<img src=x> & more"), mail(), RING)
    assert "&lt;img src=x&gt; &amp; more" in (send.html or "")
    assert "<img src=x> & more" in (send.text or "")


def test_a_template_in_a_subject_is_text() -> None:
    send = acknowledgement(ticket(subject="{{ 7 * 7 }}"), mail(), RING)
    assert "{{ 7 * 7 }}" in (send.text or "")


def test_a_ticket_without_subject_says_so() -> None:
    assert "(none)" in (acknowledgement(ticket(subject=""), mail(), RING).text or "")


@pytest.mark.parametrize(
    ("subject", "answer"),
    [
        ("Printer", "Re: Printer"),
        ("AW: Re: re[2]: SV: Printer", "Re: Printer"),
        ("Re: [#1-aaaaa] Printer", "Re: Printer"),
        ("[#2-bbbbb] AW: Printer", "Re: Printer"),
        ("Fwd: Printer", "Re: Fwd: Printer"),
        ("Rezept: Kuchen", "Re: Rezept: Kuchen"),
        ("", "Re:"),
        ("x" * 5000, f"Re: {'x' * 996}"),
    ],
)
def test_an_answers_subject_has_one_prefix_and_no_number(subject: str, answer: str) -> None:
    assert answer_subject(subject) == answer


def test_a_replys_key_is_made_of_what_it_says_and_answers() -> None:
    def key(text: str = "a", answered: str | None = None, given: str | None = None) -> str:
        answers = acknowledgement(ticket(), mail(), RING).answers if answered else None
        return reply(ticket(), text, (), answers, RING, given).idempotency_key

    assert key() == key()
    assert len({key(), key("b"), key(answered="another mail"), key(given="k")}) == 4
    assert key(given="k") == "reply:k"

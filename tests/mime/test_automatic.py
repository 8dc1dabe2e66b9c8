import pytest

from mailroom.mime import read


@pytest.mark.parametrize(
    ("header", "auto"),
    [
        ("Subject: Question", "none"),
        ("Auto-Submitted: no", "none"),
        ("Auto-Submitted: auto-replied", "replied"),
        ("Auto-Submitted: auto-generated", "generated"),
        ("Auto-Submitted: auto-notified", "generated"),
        ("Auto-Submitted: Auto-Replied (vacation)", "replied"),
        ("X-Autoreply: yes", "replied"),
        ("Precedence: auto_reply", "replied"),
        ("Precedence: bulk", "bulk"),
        ("Precedence: junk", "bulk"),
        ("Precedence: list", "list"),
        ("Precedence: first-class", "none"),
        ("List-Id: <x.example.net>", "list"),
        ("List-Unsubscribe: <https://x.example/>", "bulk"),
        ("Return-Path: <>", "generated"),
        ("Return-Path: <a@b.example>", "none"),
        ("X-Auto-Response-Suppress: All", "none"),  # Outlook writes it on mails of persons too
    ],
)
def test_headers_tell_whether_a_person_wrote(header: str, auto: str) -> None:
    assert read(f"From: a@b.example\r\n{header}\r\n\r\nHello".encode()).auto == auto


def test_an_answer_of_a_machine_outweighs_the_list_that_passed_it_on() -> None:
    raw = b"List-Id: <x>\r\nPrecedence: bulk\r\nAuto-Submitted: auto-replied\r\n\r\n"
    assert read(raw).auto == "replied"


@pytest.mark.parametrize(
    "subject",
    [
        "Automatic reply: Angebot",
        "Automatische Antwort: Angebot",
        "Out of Office: Angebot",
        "Abwesenheitsnotiz: Angebot",
        "Réponse automatique : offre",
        "Respuesta automática: oferta",
    ],
)
def test_an_absence_notice_of_exchange_is_an_answer(subject: str) -> None:
    exchange = "Auto-Submitted: auto-generated\r\nX-Auto-Response-Suppress: All"
    raw = f"Subject: {subject}\r\n{exchange}\r\n\r\n".encode()
    assert read(raw).auto == "replied"


def test_a_person_may_write_about_an_absence() -> None:
    assert read(b"Subject: Out of office next week\r\n\r\nHi").auto == "none"
    assert read(b"Subject: Re: Out of office\r\nIn-Reply-To: <a@b>\r\n\r\nHi").auto == "none"

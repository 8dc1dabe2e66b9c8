"""Mails to measure with: of three sizes, no two alike, the same ones for the same seed."""

import email.policy
from email.message import EmailMessage
from random import Random
from textwrap import fill

from mailroom import clock

SHARES = ((0.70, 4_000), (0.25, 60_000), (0.05, 1_000_000))
"""Of mails by their size in bytes, as they come to an office."""

_SENTENCES = (
    "order invoice delivery Tuesday please attached regards warehouse Müller price offer "
    "question parcel damaged arrived yesterday again number customer Größe colour black white "
    "thanks address changed until Friday could you tell whether the second one is on its way"
)
_WORDS = _SENTENCES.split()


def mixed(count: int, seed: int, to: str) -> list[bytes]:
    """Mails in the shares of an office, shuffled."""
    random = Random(seed)
    sizes = [size for share, size in SHARES for _ in range(round(share * count))]
    random.shuffle(sizes)
    return [mail(random, size, to) for size in sizes]


def mail(random: Random, size: int, to: str) -> bytes:
    """A customer's mail of about so many bytes: text; with HTML; with a file besides."""
    name, number = random.choice(_WORDS).title(), random.getrandbits(64)
    message = EmailMessage(policy=email.policy.SMTP)
    for hop in range(3):
        message["Received"] = (
            f"from mx{hop}.customer.test (mx{hop}.customer.test [192.0.2.{hop}])"
            f" by mail{hop}.example.com with ESMTPS id {random.getrandbits(48):x};"
            " Tue, 03 Nov 2026 09:12:44 +0100"
        )
    message["DKIM-Signature"] = (
        f"v=1; a=rsa-sha256; d=customer.test; b={random.getrandbits(1024):x}"
    )
    message["From"] = f'"{name} Größer" <customer-{number:x}@customer.test>'
    message["To"] = to
    message["Subject"] = words(random, 50).replace("\n", " ")
    message["Date"] = clock.now().replace(microsecond=0)
    message["Message-ID"] = f"<{number:x}@customer.test>"
    message.set_content(words(random, min(size // 2, 20_000)))
    if size > 10_000:
        html = "".join(f"<p>{words(random, 400)}</p>" for _ in range(min(size, 40_000) // 420))
        message.add_alternative(f"<html><body>{html}</body></html>", subtype="html")
    if size > 100_000:
        file = random.randbytes((size - 60_000) * 3 // 4)
        message.add_attachment(file, "application", "pdf", filename=f"Rechnung {number}.pdf")
    return bytes(message)


def words(random: Random, length: int) -> str:
    """A text of about so many characters."""
    return fill(" ".join(random.choices(_WORDS, k=length // 7)), 76) + "\n"

"""Mails made to exhaust a reader, and what each costs: `python -m tests.mime.bombs` prints it."""

import base64
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from mailroom.mime import read

HUNDRED_THOUSAND = 100_000


def mail(header: bytes, body: bytes) -> bytes:
    return b"From: a@b.example\r\nSubject: x\r\n" + header + b"\r\n\r\n" + body


def typed(kind: bytes, body: bytes) -> bytes:
    return mail(b"Content-Type: " + kind, body)


def daemon(body: bytes) -> bytes:
    return b"From: MAILER-DAEMON@x.example\r\nSubject: failure notice\r\n\r\n" + body


def nested(levels: int, innermost: bytes) -> bytes:
    level = b'--%d\r\nContent-Type: multipart/mixed; boundary="%d"\r\n\r\n'
    body = b"".join(level % (i, i + 1) for i in range(levels))
    return typed(b'multipart/mixed; boundary="0"', body + innermost)


def report(count: int) -> bytes:
    group = b"Final-Recipient: rfc822; a%d@b.c\r\nDiagnostic-Code: smtp; user mailbox is\r\n\r\n"
    status = b"--b\r\nContent-Type: message/delivery-status\r\n\r\n"
    groups = b"".join(group % i for i in range(count))
    return typed(b"multipart/report; boundary=b", status + groups + b"--b--")


def constructed(chunk: bytes, count: int) -> bytes:
    """SignedData whose content is an OCTET STRING of many chunks."""
    head = bytes.fromhex("308006092a864886f70d010702a080308002010131003080"
                         "06092a864886f70d010701a0802480")  # fmt: skip
    return typed(b"application/pkcs7-mime", head + chunk * count + b"\0" * 12)


MIXED = b"multipart/mixed; boundary=b"
QP = b"Content-Transfer-Encoding: quoted-printable"
BASE64 = b"Content-Transfer-Encoding: base64"
UU_LINE = b"M" + b"A" * 60 + b"\r\n"
TNEF = b"\x78\x9f\x3e\x22\x01\x00"
# MAPI properties, four thousand million of them, each of so many values.
ENDLESS = b"\1\3\x90\6\0" + b"\x0c\0\0\0" + b"\xff" * 4 + b"\2\x10\1\0" + b"\xff" * 4 + b"\0" * 9

BOMBS: dict[str, Callable[[], bytes]] = {
    "parts": lambda: typed(MIXED, b"--b\r\n\r\nx\r\n" * HUNDRED_THOUSAND),
    "empty parts": lambda: typed(MIXED, b"--b\n" * 1_000_000),
    "nesting": lambda: nested(5_000, b""),
    "nesting around a large part": lambda: nested(60, b"x\n" * 15_000_000),
    "nesting under one boundary": lambda: typed(
        MIXED, (b"--b\r\nContent-Type: " + MIXED + b"\r\n\r\n") * HUNDRED_THOUSAND
    ),
    "mails in mails": lambda: b"Content-Type: message/rfc822\r\n\r\n" * HUNDRED_THOUSAND,
    "headers": lambda: b"X-A: b\r\n" * HUNDRED_THOUSAND + b"\r\nx",
    "header names": lambda: b"".join(b"X-%d: b\r\n" % i for i in range(HUNDRED_THOUSAND)),
    "a long header": lambda: b"Subject: " + b"x " * 5_000_000 + b"\r\n\r\nx",
    "folds": lambda: b"Subject: x" + b"\r\n y" * 1_000_000 + b"\r\n\r\nx",
    "stray lines": lambda: b"a\r\n" * 300_000 + b"From: x@y\r\n\r\nx",
    "encoded words": lambda: b"To: " + b"=?utf-8?q?=41?= <a@b.c>, " * HUNDRED_THOUSAND,
    "encoded words without end": lambda: b"Subject: " + b"=?utf-8?q?" * HUNDRED_THOUSAND,
    "charset names in words": lambda: b"Subject: "
    + b"".join(b"=?x-c%d?q?=E4?= " % i for i in range(HUNDRED_THOUSAND)),
    "charset names of parts": lambda: typed(
        MIXED,
        b"".join(
            b"--b\r\nContent-Type: text/plain; charset=x%d\r\n\r\n\xe4\r\n" % i
            for i in range(HUNDRED_THOUSAND)
        ),
    ),
    "punycode": lambda: typed(b"text/plain; charset=punycode", b"a-" * 1_000_000),
    "utf-7": lambda: typed(b"text/plain; charset=utf-7", b"+AAA-" * 1_000_000),
    "parameters": lambda: typed(b"text/plain" + b"; a*0=b" * 300_000, b"x"),
    "quotes in parameters": lambda: typed(b"text/plain" + b';"' * 500_000, b"x"),
    "base64": lambda: mail(BASE64, base64.encodebytes(b"\xff\x00x" * 10_000_000)),
    "base64 of padding": lambda: mail(BASE64, b"=A==" * 1_000_000),
    "quoted-printable": lambda: mail(QP, b"=41=\r\n" * 3_000_000),
    "a large text": lambda: typed(b"text/plain; charset=utf-8", "ä😀\n".encode() * 4_000_000),
    "uuencoded lines": lambda: mail(b"", b"begin 644 a\r\n" + UU_LINE * 500_000),
    "uuencoded files": lambda: mail(b"", b"begin 644 a\r\n#0V%T\r\n`\r\nend\r\n" * 200_000),
    "quotes in addresses": lambda: b"To: " + b'"\\' * 1_000_000,
    "brackets in addresses": lambda: b"To: " + b"<" * 1_000_000,
    "comments in addresses": lambda: b"To: " + b"(a" * 1_000_000,
    "blanks in addresses": lambda: b"To: a" + b" " * 1_000_000 + b"b, c\r\n\r\n",
    "references": lambda: b"References: " + b"<a@b> " * 1_000_000,
    "references without end": lambda: b"References: " + b"<a " * 300_000,
    "tags": lambda: mail(b"", b"[#" * 2_000_000),
    "html elements": lambda: typed(b"text/html", b"<div>" * 1_000_000),
    "html tables": lambda: typed(
        b"text/html", b"<table><td>" + b"y" * 100_000 + b"<tr><td>a" * HUNDRED_THOUSAND
    ),
    "html attributes": lambda: typed(b"text/html", b"<p " + b"a=1 " * 1_000_000),
    "html quotations": lambda: typed(b"text/html", b"<blockquote>x" * HUNDRED_THOUSAND),
    "html parts": lambda: typed(
        MIXED, (b"--b\r\nContent-Type: text/html\r\n\r\n" + b"<p>x" * 10_000 + b"\r\n") * 500
    ),
    "recipients of a notice": lambda: daemon(b"<a@b.c>: user unknown\r\n" * 200_000),
    "headers in a notice": lambda: daemon(b"Received: x\r\n" * 200_000),
    "recipients of a report": lambda: report(HUNDRED_THOUSAND),
    "json": lambda: mail(b"", b'{"notificationType":' + b"[" * 1_000_000),
    "tnef objects": lambda: typed(b"application/ms-tnef", TNEF + b"\1\7\x90\x08" * 1_000_000),
    "tnef loops": lambda: typed(b"application/ms-tnef", TNEF + ENDLESS),
    "chunks of a signature": lambda: constructed(b"\x04\x01a", 3_000_000),
    "nesting of a signature": lambda: typed(b"application/pkcs7-mime", b"\x30\x80" * 500_000),
    "line ends": lambda: b"\r\n" * 5_000_000,
    "nothing": lambda: b"",
}  # fmt: skip


def resident(which: str) -> int:
    """VmRSS or VmHWM of this process, in MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{which}:")[1].split()[0]) // 1024


def spent() -> float:
    """Seconds of CPU of this process and of those that it waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def main() -> None:
    for name, make in BOMBS.items():
        raw = make()
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM counts from here
        before, started = resident("VmRSS"), spent()
        read_mail = read(raw)
        seconds = spent() - started
        grown = resident("VmHWM") - before
        told = {"name": name, "seconds": seconds, "MB": grown, "defects": read_mail.defects}
        sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()

"""What can go wrong at a mail server, in a person's words.

Invariant: every failure of `mailroom.imap` is one of these classes, one class a failure, and its
message says what is wrong and what to look at. `mailroom account test` and the state of an account
show the same words. No message holds a password; what the server said is cut and cleaned.
"""

import re
import socket
import ssl

_UNPRINTABLE = re.compile(r"[^\x20-\x7e\xa0-\uffff]+")


def said(text: bytes) -> str:
    """What a server said, fit for a message: printable, at most 200 characters."""
    return _UNPRINTABLE.sub(" ", text.decode("utf-8", "replace")).strip()[:200]


class ImapFailure(Exception):
    """Something is wrong with a mail server, an account or what it was asked for.

    `endpoint` is host:port. After any failure but CommandRefused, FolderMissing, FolderExists and
    MailGone the connection is of no more use.
    """

    def __init__(self, endpoint: str, words: str) -> None:
        self.endpoint = endpoint
        super().__init__(f"{endpoint}: {words}")


class HostUnknown(ImapFailure):
    """The name does not resolve."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(endpoint, "no such host: check the server's name")


class ConnectRefused(ImapFailure):
    """Nothing listens at the port."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(endpoint, "connection refused: nothing listens there, check the port")


class Unreachable(ImapFailure):
    """The network does not lead there."""

    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(endpoint, f"not reachable: {reason}")


class CertificateRefused(ImapFailure):
    """The server's certificate does not prove its name, or nobody we trust signed it."""

    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(
            endpoint,
            f"certificate refused: {reason}; check the server's name, or name its authority in"
            " MAILROOM_TLS_CA_FILE",
        )


class TlsFailed(ImapFailure):
    """The server does not speak TLS here, or no version that we accept."""

    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(
            endpoint, f"no TLS: {reason}; check port and TLS mode (implicit or starttls)"
        )


class StartTlsMissing(ImapFailure):
    """TLS mode is starttls, and the server does not offer it (RFC 3501 section 6.2.1)."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(endpoint, "the server offers no STARTTLS: use TLS mode implicit")


class PlaintextRefused(ImapFailure):
    """TLS mode is none, and the server is not on this machine: we do not send the password."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(
            endpoint, "a password goes unencrypted over loopback only: use implicit or starttls"
        )


class LoginDisabled(ImapFailure):
    """The server takes no password here (LOGINDISABLED, RFC 3501 section 6.2.3)."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(endpoint, "the server takes no password here: use implicit or starttls")


class LoginRefused(ImapFailure):
    """User and password do not fit."""

    def __init__(self, endpoint: str, user: str, answer: str) -> None:
        self.user = user
        super().__init__(endpoint, f"wrong user or password for {user}; the server says: {answer}")


class LoginUnavailable(ImapFailure):
    """The server cannot check passwords just now ([UNAVAILABLE], RFC 5530 section 3)."""

    def __init__(self, endpoint: str, answer: str) -> None:
        super().__init__(endpoint, f"login is not possible just now; the server says: {answer}")


class TimedOut(ImapFailure):
    """The server did not answer in time."""

    def __init__(self, endpoint: str, what: str, seconds: float) -> None:
        super().__init__(endpoint, f"timed out: no answer to {what} within {seconds:.0f} s")


class ConnectionLost(ImapFailure):
    """The connection broke, or the server ended it."""

    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(endpoint, f"connection lost: {reason or 'the server closed it'}")


class AnswerUnreadable(ImapFailure):
    """The server answered what IMAP does not allow, or far too much."""

    def __init__(self, endpoint: str, what: str) -> None:
        super().__init__(endpoint, f"the server's answer cannot be read: {what}")


class CommandRefused(ImapFailure):
    """The server said NO or BAD to a command."""

    def __init__(self, endpoint: str, command: str, answer: str) -> None:
        self.command, self.answer = command, answer
        super().__init__(endpoint, f"{command} refused; the server says: {answer}")


class FolderMissing(ImapFailure):
    """The account has no such folder, or it cannot be opened."""

    def __init__(self, endpoint: str, folder: str, answer: str) -> None:
        self.folder = folder
        super().__init__(endpoint, f"no folder {folder!r}; the server says: {answer}")


class FolderExists(ImapFailure):
    """The folder to create is there already."""

    def __init__(self, endpoint: str, folder: str) -> None:
        self.folder = folder
        super().__init__(endpoint, f"folder {folder!r} exists already")


class IdleMissing(ImapFailure):
    """The server has no IDLE (RFC 2177): ask it by interval."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(endpoint, "the server has no IDLE: new mail is looked for by interval")


class MailGone(ImapFailure):
    """The mail was removed while it was being fetched."""

    def __init__(self, endpoint: str, uid: int) -> None:
        self.uid = uid
        super().__init__(endpoint, f"mail with UID {uid} is gone")


class ControlCharacter(ValueError):
    """A name or value holds a control character: it would become a command of its own."""

    def __init__(self, what: str, value: str) -> None:
        self.what = what
        shown = "" if what == "password" else f" {value!r}"
        super().__init__(f"{what}{shown}: remove its control characters")


def connect_failure(endpoint: str, error: OSError) -> ImapFailure:
    """The failure that says what an OSError of connecting means. Fits SMTP servers as well."""
    match error:
        case socket.gaierror():
            return HostUnknown(endpoint)
        case ssl.SSLCertVerificationError():
            return CertificateRefused(endpoint, error.verify_message)
        case ssl.SSLError():
            return TlsFailed(endpoint, (error.reason or str(error)).replace("_", " ").lower())
        case ConnectionRefusedError():
            return ConnectRefused(endpoint)
        case ConnectionResetError() | BrokenPipeError():
            return ConnectionLost(endpoint, "the server closed it before it greeted")
    return Unreachable(endpoint, error.strerror or str(error))

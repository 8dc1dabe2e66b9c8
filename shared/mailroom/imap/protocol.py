"""aioimaplib's protocol, with the parts replaced that cannot bear what mail servers send.

Invariant: a command on a `Connection` always ends: by its answer, by the connection's loss, or by
the time limit that `mailroom.imap.connection.command` sets. `docs/decisions/imap-client.md` says
what of the library is replaced, and why.
"""

import asyncio
import re
from typing import Any

import aioimaplib

from mailroom.imap.failures import AnswerUnreadable, ConnectionLost, ImapFailure, said

CRLF = b"\r\n"
LONGEST_LITERAL = 32 * 1024 * 1024
"""Bytes. A batch of bodies asks for 8 MB; a server that sends more than this is not believed."""
LONGEST_LINE = 64 * 1024 * 1024
"""Bytes. One line lists the UIDs of a folder: this is enough for six million."""

_LITERAL = re.compile(rb"\{(\d{1,18})\+?\}$")
_TAGGED = re.compile(rb"[A-Z]+[0-9]+ (OK|NO|BAD)( |$)")
_NUMBERED = re.compile(rb"(\d{1,10}) ([A-Z]+)")
LOST = "LOST"
"""The result of a command whose connection broke, beside OK, NO and BAD."""


class Connection(aioimaplib.IMAP4ClientProtocol):  # type: ignore[misc]
    """One connection to a mail server. Hand it to the functions of `mailroom.imap`, one at a time.

    Not safe for concurrent use: a connection belongs to one task.
    """

    def __init__(self, endpoint: str, limit: float) -> None:
        super().__init__(asyncio.get_running_loop())
        self.endpoint = endpoint
        """host:port, for messages."""
        self.limit = limit
        """Seconds that the server has for an answer."""
        self.greeting: asyncio.Future[bytes] = self.loop.create_future()
        self.folder = ""
        """The open folder; empty when none is."""
        self.exists = 0
        """Mails in the open folder, as last told."""
        self.news = asyncio.Event()
        """Set when the server tells, at any time, that mails were added to the open folder."""
        self.failure: ImapFailure | None = None
        """Why this connection is of no more use."""
        self.incomplete_line = bytearray()
        self.current_command: Any = None
        """The command that the next line or literal belongs to, if one has begun to be answered."""
        self._bye = b""

    def connection_lost(self, error: Exception | None) -> None:
        """End the pending commands: the library lets them wait for ever."""
        reason = said(self._bye) or (str(error) if error else "")
        self.fail(ConnectionLost(self.endpoint, reason))

    def fail(self, failure: ImapFailure) -> ImapFailure:
        """Give the connection up: every pending and later command raises `failure`.

        Returns the failure that stands: the first one.
        """
        if self.failure is not None:
            return self.failure
        self.failure = failure
        if not self.greeting.done():
            self.greeting.set_result(b"")
        for command in (self.pending_sync_command, *self.pending_async_commands.values()):
            if command is not None:
                command.close(b"", LOST)
        self.news.set()
        if self.transport is not None:
            self.transport.abort()
        return failure

    def send(self, line: str, scrub: str | None = None) -> None:  # noqa: ARG002
        """Send a command; the library would format it, password and all, for a debug line."""
        self.transport.write(line.encode() + CRLF)

    def data_received(self, data: bytes) -> None:
        """Take what came: line by line in a loop, where the library recurses.

        What was searched for the end of its line is not searched again, nor copied: a server that
        sends a long one in small pieces would stop all accounts of this process.
        """
        searched = max(len(self.incomplete_line) - 1, 0)
        self.incomplete_line += data
        try:
            at = self._consume(self.incomplete_line, searched)
        except (aioimaplib.AioImapException, ValueError) as broken:
            self.fail(AnswerUnreadable(self.endpoint, said(str(broken).encode())))
            return
        del self.incomplete_line[:at]
        if len(self.incomplete_line) > LONGEST_LINE:
            self.fail(AnswerUnreadable(self.endpoint, "a line without end"))

    def _consume(self, data: bytearray, searched: int) -> int:
        """Handle all whole lines and all of a literal that is there; return where that ends.

        Before `searched` no line ends.
        """
        at = 0
        while self.failure is None:
            command = self.current_command
            if command is not None and command.wait_literal_data():
                with memoryview(data) as view, view[at:] as rest:
                    at += len(rest) - len(command.append_literal_data(rest))
                if command.wait_literal_data():
                    break
            end = data.find(CRLF, max(at, searched))
            if end < 0:
                break
            self.current_command = self._take_line(bytes(data[at:end]))
            at = end + len(CRLF)
        return at

    def _take_line(self, line: bytes) -> Any:
        """Handle one line; the command that the next line or literal still belongs to, or None."""
        if not self.greeting.done():
            self.greeting.set_result(line)
            return None
        if self.current_command is None and _TAGGED.match(line):
            self._response_done(line)
            return None
        command = self.current_command
        if command is not None:
            command.append_to_resp(line)
        elif line.startswith(b"* "):
            command = self._untagged_response(line)
        elif line.startswith(b"+"):
            self._continuation(line)
        return self._expect_literal(line, command)

    def _expect_literal(self, line: bytes, command: Any) -> Any:
        literal = _LITERAL.search(line)
        if literal is None:
            return None
        if int(literal[1]) > LONGEST_LITERAL:
            raise ValueError(f"{int(literal[1])} bytes at once")
        command = command or aioimaplib.Command("NIL", "unused")  # nobody asked: read it over
        command.begin_literal_data(int(literal[1]))
        return command

    def _untagged_response(self, line: bytes) -> Any:
        """Give a line to the command that asked for it; note what the server tells unasked."""
        text = line[2:]
        numbered = _NUMBERED.match(text)
        name = numbered[2] if numbered else text.partition(b" ")[0].upper()
        if numbered and name == b"EXISTS":
            if int(numbered[1]) > self.exists:
                self.news.set()
            self.exists = int(numbered[1])
        elif numbered and name == b"EXPUNGE":
            self.exists -= 1
        elif name == b"BYE":
            self._bye = text
        command = self.pending_sync_command
        if command is None:
            command = self.pending_async_commands.get(name.decode("ascii", "replace"))
        if command is not None:
            command.append_to_resp(text)
        return command

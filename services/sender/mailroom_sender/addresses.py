"""Which addresses can be sent to, and how they stand in an envelope and in a header.

Invariant: what `sendable` returns is printable ASCII without spaces, brackets, quotes or a route,
so it cannot end a command or a header. Local parts beyond ASCII (RFC 6531) are not supported.
"""

import re

import idna

# RFC 5321 section 4.1.2: Dot-string. Quoted strings are refused: nobody has such an address, and
# each server reads them in another way.
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*")


class AddressWrong(Exception):
    """This is no address that mail can be sent to; the message is the remedy."""

    def __init__(self, address: str, remedy: str) -> None:
        self.address = address
        super().__init__(remedy)


def sendable(address: str) -> str:
    """The addr-spec (RFC 5322 section 3.4.1) with its domain in ASCII (RFC 5890).

    Raises AddressWrong.
    """
    if len(address) > 254:
        raise AddressWrong(address, "an address has at most 254 characters (RFC 5321, 4.5.3.1.3)")
    local, at, domain = address.rpartition("@")
    if not at or not local or not domain:
        raise AddressWrong(address, "give name@domain, without a display name or brackets")
    if len(local) > 64 or not _LOCAL.fullmatch(local):
        raise AddressWrong(
            address,
            "before the @: letters, digits and !#$%&'*+-/=?^_`{|}~ with single dots between",
        )
    return f"{local}@{_ascii_domain(address, domain)}"


def _ascii_domain(address: str, domain: str) -> str:
    if not domain.isascii():
        try:
            domain = idna.encode(domain, uts46=True, std3_rules=True).decode("ascii")
        except idna.IDNAError as wrong:
            raise AddressWrong(address, f"after the @ stands no domain: {wrong}") from None
    if not _DOMAIN.fullmatch(domain):
        raise AddressWrong(address, "after the @: a domain such as example.com")
    return domain

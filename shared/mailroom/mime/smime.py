"""What lies in an S/MIME envelope (RFC 8551): the signed entity, or the word that it is encrypted.

Nothing is verified here. Invariant: one pass over the bytes, no recursion, and a broken envelope
yields nothing. The few steps to the content stand here because a whole ASN.1 library takes
seconds for an envelope whose content was cut into millions of chunks.
"""

from typing import Final

MOST_CHUNKS: Final = 500_000
"""Of one signed entity; mail programs cut it into chunks of a kilobyte or more."""

TYPES: Final = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})

_SIGNED: Final = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02"  # RFC 5652 section 5.1
_ENCRYPTED: Final = (
    b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03",  # EnvelopedData, RFC 5652 section 6.1
    b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x06",  # EncryptedData, RFC 5652 section 8
    b"\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x01\x17",  # AuthEnvelopedData, RFC 5083
)
_SEQUENCE, _SET, _EXPLICIT, _INTEGER, _OID, _OCTETS, _CHUNKED = (
    0x30, 0x31, 0xA0, 0x02, 0x06, 0x04, 0x24,
)  # fmt: skip


def opened(der: bytes) -> tuple[bytes | None, bool]:
    """The entity inside of SignedData (or None), and whether the envelope is encrypted."""
    _, start, _ = _element(der, 0)
    if der.startswith(_ENCRYPTED, start):
        return None, True
    if not der.startswith(_SIGNED, start):
        return None, False
    return _content(der, start + len(_SIGNED)), False


def _content(der: bytes, at: int) -> bytes | None:
    """The eContent of a SignedData (RFC 5652 section 5.2), entered (True) or skipped to."""
    for expected, enter in (
        (_EXPLICIT, True), (_SEQUENCE, True), (_INTEGER, False), (_SET, False),
        (_SEQUENCE, True), (_OID, False), (_EXPLICIT, True),
    ):  # fmt: skip
        tag, start, length = _element(der, at)
        if tag != expected or (length is None and not enter):
            return None
        at = start if enter else start + (length or 0)
    tag, start, length = _element(der, at)
    if tag == _OCTETS and length is not None:
        return der[start : start + length]
    if tag == _CHUNKED:
        return _joined(der, start, len(der) if length is None else start + length)
    return None


def _joined(der: bytes, at: int, end: int) -> bytes | None:
    """A constructed OCTET STRING (X.690 section 8.7.3) put together; None of too many chunks."""
    joined = bytearray()  # b"".join takes 80 bytes a chunk
    for _ in range(MOST_CHUNKS):
        tag, start, length = _element(der, at)
        if at >= end or tag != _OCTETS or length is None:
            return bytes(joined)  # at the end-of-contents octets, if not before
        joined += der[start : start + length]
        at = start + length
    return None


def _element(der: bytes, at: int) -> tuple[int, int, int | None]:
    """Tag, where the contents start, and their length: None if indefinite (X.690 section 8.1)."""
    if at + 2 > len(der):
        return -1, len(der), 0
    tag, length = der[at], der[at + 1]
    if length < 0x80:
        return tag, at + 2, length
    size = length & 0x7F
    start = at + 2 + size
    return tag, start, int.from_bytes(der[at + 2 : start], "big") if size else None

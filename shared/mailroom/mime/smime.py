"""What lies in an S/MIME envelope (RFC 8551): the signed entity, or the word that it is encrypted.

Nothing is verified here. Invariant: a broken envelope yields nothing and never raises.
"""

from typing import Final

from asn1crypto import cms

LARGEST: Final = 26_214_400  # bytes; a larger envelope stays closed

TYPES: Final = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})
_ENCRYPTED: Final = frozenset({"enveloped_data", "authenticated_enveloped_data", "encrypted_data"})


def opened(der: bytes) -> tuple[bytes | None, bool]:
    """The entity inside of SignedData (or None), and whether the envelope is encrypted."""
    if len(der) > LARGEST:
        return None, False
    try:
        envelope = cms.ContentInfo.load(der)
        kind = envelope["content_type"].native
        if kind != "signed_data":
            return None, kind in _ENCRYPTED
        content = envelope["content"]["encap_content_info"]["content"]
        if not content.contents:
            return None, False
        return (_chunks(content.contents) if content.method else content.contents), False
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None, False


def _chunks(constructed: bytes) -> bytes:
    """A constructed OCTET STRING (X.690 section 8.7.3) put together, in one pass."""
    found: list[bytes] = []
    at = 0
    while at + 2 <= len(constructed) and constructed[at] == 0x04:
        length = constructed[at + 1]
        at += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(constructed[at : at + size], "big")
            at += size
        found.append(constructed[at : at + length])
        at += length
    return b"".join(found)

"""A certificate authority made on the spot, and the one certificate of the mail servers.

Invariant: the authority's key is never written down, so that nothing else can be certified by it.
"""

from pathlib import Path

CERTIFICATE = "certificate.pem"
KEY = "key.pem"


def make(ca_file: Path, folder: Path) -> None:
    """Write `ca_file` and, in `folder`, certificate and key for `localhost` and 127.0.0.1.

    Does nothing if they are there. Elliptic curves: an RSA key alone takes longer than all else.
    """
    if ca_file.exists():
        return
    # Imported here: the installer, which needs none, runs before there is anything to import.
    import trustme  # noqa: PLC0415

    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    issued = authority.issue_cert("localhost", "127.0.0.1", key_type=trustme.KeyType.ECDSA)
    folder.mkdir(mode=0o700, exist_ok=True)
    chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
    (folder / CERTIFICATE).write_bytes(chain)
    (folder / KEY).touch(mode=0o600)
    issued.private_key_pem.write_to_path(str(folder / KEY))
    # Last: that it exists says that all is there.
    authority.cert_pem.write_to_path(str(ca_file))

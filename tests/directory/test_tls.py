from pathlib import Path

import pytest
import trustme

from mailroom import tls


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.3.2.1", "::1"])
def test_loopback_is_this_machine(host: str) -> None:
    assert tls.is_loopback(host)


@pytest.mark.parametrize(
    "host",
    ["", "localhost.example.com", "example.com", "10.0.0.1", "0.0.0.0", "::", "127.0.0.1.de", "1"],  # noqa: S104
)
def test_everything_else_is_not(host: str) -> None:
    assert not tls.is_loopback(host)


def test_an_own_authority_is_trusted_beside_the_systems_not_instead(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(ca_file))
    ours = tls.client_context(ca_file).cert_store_stats()["x509_ca"]
    assert ours == tls.client_context().cert_store_stats()["x509_ca"] + 1


def test_a_process_reads_all_authorities_once(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(ca_file))
    assert tls.client_context(ca_file) is tls.client_context(ca_file)


def test_name_and_certificate_are_verified() -> None:
    context = tls.client_context()
    assert context.check_hostname
    assert context.verify_mode.name == "CERT_REQUIRED"


def test_a_file_without_certificates_is_named_with_the_remedy(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("no certificate")
    for path in (empty, tmp_path / "missing.pem"):
        with pytest.raises(tls.AuthoritiesUnreadable, match=r"MAILROOM_TLS_CA_FILE is .*pem"):
            tls.client_context(path)

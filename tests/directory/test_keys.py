import os
from pathlib import Path

import pytest

from mailroom.directory import KeyFileRefused, Server, load_keys, load_seal_key, seal, unseal
from mailroom_directory import keys
from tests.directory.conftest import Mailroom, Refused


def sealed_with(made: keys.Made) -> Server:
    sealed = seal("localhost", "anna", "hunter2", load_seal_key(made.public))
    return Server("localhost", 993, "implicit", "anna", sealed)


def test_what_the_public_key_seals_the_ring_opens(tmp_path: Path) -> None:
    made = keys.make(tmp_path / "new" / "folder")
    assert unseal(sealed_with(made), load_keys(made.private)) == "hunter2"


def test_a_rotation_puts_the_new_key_before_the_old_ones(tmp_path: Path) -> None:
    first = sealed_with(keys.make(tmp_path))
    second = keys.make(tmp_path)
    assert second.older == 1
    ring = load_keys(second.private)
    assert ring.ring[0].public_key == load_seal_key(second.public)
    assert unseal(first, ring) == unseal(sealed_with(second), ring) == "hunter2"


def test_key_files_are_their_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made = keys.make(tmp_path / "keys")
    finally:
        os.umask(before)
    assert made.private.stat().st_mode & 0o777 == 0o600
    assert made.public.stat().st_mode & 0o777 == 0o600
    assert made.private.parent.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in made.private.parent.iterdir()) == [
        "seal.key",
        "unseal.keys",
    ]


def test_a_ring_that_cannot_be_read_is_not_overwritten(tmp_path: Path) -> None:
    ring = tmp_path / keys.PRIVATE
    ring.write_text("garbage!\n")
    with pytest.raises(KeyFileRefused, match="not base64"):
        keys.make(tmp_path)
    assert ring.read_text() == "garbage!\n"


def test_the_command_says_who_needs_which_file_and_shows_no_key(
    mailroom: Mailroom, tmp_path: Path
) -> None:
    said = mailroom("account", "keys", str(tmp_path / "k"))
    assert f"{tmp_path}/k/seal.key: MAILROOM_DIRECTORY_SEAL_KEY_FILE" in said
    assert f"{tmp_path}/k/unseal.keys: MAILROOM_FETCHER_UNSEAL_KEYS_FILE" in said
    for file in (tmp_path / "k").iterdir():
        assert file.read_text().strip() not in said
    (tmp_path / "k" / "unseal.keys").write_text("garbage!")
    with pytest.raises(Refused) as refused:
        mailroom("account", "keys", str(tmp_path / "k"))
    assert refused.value.exit_code == 2
    assert "garbage" not in refused.value.line


def test_the_ring_has_the_new_key_before_anything_can_be_sealed_with_it(tmp_path: Path) -> None:
    keys.make(tmp_path)
    (tmp_path / keys.PUBLIC).unlink()
    (tmp_path / keys.PUBLIC).mkdir()  # so that writing the public key fails
    with pytest.raises(OSError, match=keys.PUBLIC):
        keys.make(tmp_path)
    assert len(load_keys(tmp_path / keys.PRIVATE).ring) == 2

import base64
import traceback
from dataclasses import replace
from pathlib import Path

import pytest
from nacl.public import PrivateKey

from mailroom.directory import (
    KeyFileRefused,
    PasswordSealed,
    Server,
    UnsealKeys,
    load_keys,
    load_seal_key,
    seal,
    unseal,
)

OLD, NEW = PrivateKey.generate(), PrivateKey.generate()
RING = UnsealKeys((NEW, OLD))
PASSWORD = "hunter2 ü€\U0001f511"


def server(key: PrivateKey = NEW) -> Server:
    sealed = seal("localhost", "anna", PASSWORD, key.public_key)
    return Server("localhost", 993, "implicit", "anna", sealed)


def test_a_sealed_password_opens_with_the_ring() -> None:
    assert unseal(server(), RING) == PASSWORD


def test_a_password_sealed_before_a_rotation_still_opens() -> None:
    assert unseal(server(OLD), RING) == PASSWORD


def test_a_password_whose_key_left_the_ring_does_not_open() -> None:
    with pytest.raises(PasswordSealed, match=r"anna at localhost .* no key of the ring fits"):
        unseal(server(OLD), UnsealKeys((NEW,)))


@pytest.mark.parametrize("change", [{"host": "evil.example.com"}, {"user": "ben"}])
def test_a_password_opens_only_for_the_host_and_user_it_was_sealed_for(
    change: dict[str, str],
) -> None:
    with pytest.raises(PasswordSealed, match="sealed for another login"):
        unseal(replace(server(), **change), RING)  # type: ignore[arg-type]


def test_a_role_that_may_not_read_passwords_is_told_so() -> None:
    with pytest.raises(PasswordSealed, match="role may not read it"):
        unseal(replace(server(), sealed_password=b""), RING)


def test_neither_password_nor_key_shows_in_a_repr_or_a_traceback() -> None:
    key = base64.b64encode(bytes(NEW)).decode()
    shown = [repr(RING), repr(server()), str(server())]
    try:
        unseal(replace(server(), user="ben"), RING)
    except PasswordSealed:
        shown.append(traceback.format_exc())
    for text in shown:
        assert "hunter2" not in text
        assert key not in text
        assert repr(bytes(NEW)) not in text
        assert "sealed_password" not in text


def write(folder: Path, *lines: str) -> Path:
    path = folder / "keys"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def line(key: bytes) -> str:
    return base64.b64encode(key).decode()


def test_a_ring_is_read_newest_first_and_a_public_key_alone(tmp_path: Path) -> None:
    ring = load_keys(write(tmp_path, line(bytes(NEW)), "", line(bytes(OLD))))
    assert [bytes(key) for key in ring.ring] == [bytes(NEW), bytes(OLD)]
    public = load_seal_key(write(tmp_path, line(bytes(NEW.public_key))))
    assert public == NEW.public_key


@pytest.mark.parametrize(
    ("lines", "remedy"),
    [
        ([], "is empty; make keys with `mailroom account keys FOLDER`"),
        (["hunter2!"], "holds a line that is not base64"),
        (["ü"], "holds a line that is not base64"),
        ([line(b"short")], "not 32 bytes"),
    ],
)
def test_a_file_that_is_no_ring_is_refused_without_showing_it(
    tmp_path: Path, lines: list[str], remedy: str
) -> None:
    with pytest.raises(KeyFileRefused, match=remedy) as refused:
        load_keys(write(tmp_path, *lines))
    assert "hunter2" not in "".join(traceback.format_exception(refused.value))


def test_a_ring_is_not_taken_for_a_public_key(tmp_path: Path) -> None:
    with pytest.raises(KeyFileRefused, match="holds 2 keys"):
        load_seal_key(write(tmp_path, line(bytes(NEW)), line(bytes(OLD))))


def test_a_missing_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(KeyFileRefused, match=rf"{missing}: .*mailroom account keys"):
        load_keys(missing)

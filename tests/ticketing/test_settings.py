"""A key ring that cannot be used ends at start, before any mail."""

from pathlib import Path

import pytest

from mailroom.settings import SettingsRefused, load
from mailroom_ticketing.settings import TicketingSettings
from mailroom_ticketing.tags import sign
from tests.ticketing.desk import RING


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("MAILROOM_TICKETING_DATABASE_URL", "postgresql://mailroom_ticketing@db/m")
    monkeypatch.setenv("MAILROOM_TICKETING_BROKER_URL", "amqp://ticketing@broker/m")
    return monkeypatch


def test_the_ring_is_read_from_the_file_that_the_environment_names(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    file.write_text(f"a:{RING.keys[0].hex()}\n")
    environment.setenv("MAILROOM_TICKETING_TAG_KEYS_FILE", str(file))
    environment.setenv("MAILROOM_TICKETING_INSTALLATION", "acme")
    assert sign(load(TicketingSettings).ring, 1) == sign(RING, 1)


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot be read"), ("", "holds no key"), ("a:1234", "line 1 is not keyid:hex")],
)
def test_a_ring_that_cannot_be_used_is_refused_with_the_variables_name(
    environment: pytest.MonkeyPatch, tmp_path: Path, content: str | None, said: str
) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_text(content)
    environment.setenv("MAILROOM_TICKETING_TAG_KEYS_FILE", str(file))
    with pytest.raises(SettingsRefused, match="MAILROOM_TICKETING_TAG_KEYS_FILE") as refused:
        load(TicketingSettings).read_files()
    assert said in str(refused.value)


def test_a_ring_that_is_not_named_is_refused(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("MAILROOM_TICKETING_TAG_KEYS_FILE", raising=False)
    with pytest.raises(SettingsRefused, match="MAILROOM_TICKETING_TAG_KEYS_FILE is not set"):
        load(TicketingSettings)

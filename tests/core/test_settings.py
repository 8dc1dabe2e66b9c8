"""Settings are checked all at once, and each fault is told with its remedy."""

import pytest
from pydantic_settings import SettingsConfigDict

from mailroom.settings import CommonSettings, ServiceSettings, SettingsRefused, load


class ExampleSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="MAILROOM_EXAMPLE_")


GOOD = {
    "MAILROOM_EXAMPLE_DATABASE_URL": "postgresql://mailroom_example:geheim@127.0.0.1/mailroom",
    "MAILROOM_EXAMPLE_BROKER_URL": "amqp://example:geheim@127.0.0.1/mailroom",
}


def test_good_settings_are_read_with_their_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    assert load(ExampleSettings).batch == 100


def test_all_faults_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILROOM_EXAMPLE_DATABASE_URL", GOOD["MAILROOM_EXAMPLE_DATABASE_URL"])
    monkeypatch.setenv("MAILROOM_EXAMPLE_BATCH", "9000")
    with pytest.raises(SettingsRefused) as refused:
        load(ExampleSettings)
    assert "MAILROOM_EXAMPLE_BROKER_URL is not set" in str(refused.value)
    assert "MAILROOM_EXAMPLE_BATCH is '9000'" in str(refused.value)
    assert "less than or equal to 500" in str(refused.value)


def test_a_password_in_a_wrong_url_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value.replace("postgresql", "mysql"))
    with pytest.raises(SettingsRefused) as refused:
        load(ExampleSettings)
    assert "MAILROOM_EXAMPLE_DATABASE_URL" in str(refused.value)
    assert "geheim" not in str(refused.value)


def test_a_listener_without_a_port_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILROOM_OBJECTS", "/var/lib/mailroom")
    monkeypatch.setenv("MAILROOM_HTTP", "localhost")
    with pytest.raises(SettingsRefused, match="MAILROOM_HTTP is 'localhost'"):
        load(CommonSettings)


@pytest.mark.parametrize("word", ["ssl=require", "sslmode=verify-full"])
def test_a_database_url_that_says_how_to_use_tls_is_refused_with_what_does(
    monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    url = f"{GOOD['MAILROOM_EXAMPLE_DATABASE_URL']}?{word}"
    monkeypatch.setenv("MAILROOM_EXAMPLE_DATABASE_URL", url)
    with pytest.raises(SettingsRefused, match=r"MAILROOM_EXAMPLE_DATABASE_URL.*'ssl") as refused:
        load(ExampleSettings)
    assert "PGSSLMODE" in str(refused.value)
    assert "geheim" not in str(refused.value)

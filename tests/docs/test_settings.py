"""docs/settings.md is what the models say, and the models say enough."""

from pathlib import Path
from typing import Any

import pytest
from pydantic_settings import BaseSettings, SettingsConfigDict

from mailroom import settings_command
from mailroom.service import installed
from mailroom.settings import CommonSettings, OwnerSettings, ServiceSettings
from mailroom.settings_command import reference
from mailroom_router.service import SERVICE as ROUTER

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_page_of_the_settings_is_what_the_code_says() -> None:
    services = [service for _, service in sorted(installed().items())]
    assert PAGE.read_text() == reference(services) + "\n", "mailroom settings > docs/settings.md"


def models() -> list[type[BaseSettings]]:
    own: list[Any] = [service.settings for service in installed().values()]
    return [CommonSettings, ServiceSettings, OwnerSettings, *own]


@pytest.mark.parametrize("model", models(), ids=lambda model: model.__name__)
def test_every_setting_says_what_it_means(model: type[BaseSettings]) -> None:
    assert not [name for name, field in model.model_fields.items() if not field.description]


def test_a_setting_is_told_with_its_default_and_its_bounds() -> None:
    told = reference([ROUTER])
    assert "| `MAILROOM_LOG_FORMAT` | " in told
    assert " | `json` | json, text |" in told
    assert "`MAILROOM_<SERVICE>_BATCH` | events a transaction, at most | `100` | 1 to 500 |" in told
    assert "`MAILROOM_ROUTER_READING_SECONDS` | seconds that one mail may take" in told
    assert " | `20` | more than 0, 600 at most |" in told
    assert "MAILROOM_ROUTER_BATCH" not in told


def test_what_stands_in_angle_brackets_is_no_element_of_html() -> None:
    assert r"postgresql://mailroom_\<service>:" in reference([])


def test_a_service_without_settings_of_its_own_has_no_table() -> None:
    class Bare(ServiceSettings):
        model_config = SettingsConfigDict(env_prefix="MAILROOM_BARE_")

    rows = settings_command._rows(Bare, leaving_out=list(ServiceSettings.model_fields))
    assert settings_command._table("bare", rows) == ""

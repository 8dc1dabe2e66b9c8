"""The tally's environment variables: MAILROOM_TALLY_…"""

from pydantic_settings import SettingsConfigDict

from mailroom.settings import ServiceSettings


class TallySettings(ServiceSettings):
    """What every service reads, and nothing more."""

    model_config = SettingsConfigDict(env_prefix="MAILROOM_TALLY_", extra="ignore")

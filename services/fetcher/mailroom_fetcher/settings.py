"""The fetcher's environment variables: MAILROOM_FETCHER_…"""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from mailroom import directory
from mailroom.settings import ServiceSettings, SettingsRefused


class FetcherSettings(ServiceSettings):
    """What the fetcher reads beside the common settings."""

    model_config = SettingsConfigDict(env_prefix="MAILROOM_FETCHER_", extra="ignore")

    unseal_keys_file: Path = Field(
        description="file of private keys that open the accounts' passwords, newest first; required"
    )
    lease_seconds: float = Field(
        default=15.0,
        ge=1,
        le=600,
        description="seconds that a replica holds an account without renewing; a dead replica is"
        " replaced within twice as long",
    )
    answer_seconds: float = Field(
        default=30.0, ge=1, le=600, description="seconds that a mail server has for an answer"
    )
    reconcile_minutes: int = Field(
        default=60,
        ge=1,
        le=1440,
        description="minutes from one comparison of ledger and server to the next",
    )
    memory_mb: int = Field(
        default=32,
        ge=8,
        le=4096,
        description="MB of mail bodies that all accounts together hold in memory at a time",
    )

    def read_files(self) -> None:
        """The keys. Raises SettingsRefused."""
        try:
            directory.load_keys(self.unseal_keys_file)
        except directory.KeyFileRefused as refused:
            raise SettingsRefused(f"MAILROOM_FETCHER_UNSEAL_KEYS_FILE: {refused}") from None

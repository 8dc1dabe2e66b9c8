"""Ticketing's environment variables."""

from functools import cached_property
from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from mailroom.settings import ServiceSettings, SettingsRefused
from mailroom_ticketing.key_ring import TagKeysRefused, read_ring
from mailroom_ticketing.tags import Ring


class TicketingSettings(ServiceSettings):
    """What ticketing reads: MAILROOM_TICKETING_…"""

    model_config = SettingsConfigDict(env_prefix="MAILROOM_TICKETING_", extra="ignore")

    tag_keys_file: Path = Field(
        description="key ring of the tags: keyid:hex a line, newest first; required"
    )
    installation: str = Field(
        default="mailroom",
        min_length=1,
        max_length=100,
        description="this installation's name, covered by each tag's MAC; never change it",
    )

    def read_files(self) -> None:
        """The key ring. Raises SettingsRefused."""
        _ = self.ring

    @cached_property
    def ring(self) -> Ring:
        """The key ring, as it was at start: a new key is used after a restart.

        Raises SettingsRefused.
        """
        try:
            return read_ring(self.tag_keys_file, self.installation)
        except TagKeysRefused as refused:
            variable = f"MAILROOM_TICKETING_TAG_KEYS_FILE is {str(self.tag_keys_file)!r}"
            raise SettingsRefused(f"{variable}: {refused}") from None

"""Settings of the directory: MAILROOM_DIRECTORY_…"""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from mailroom.settings import ServiceSettings


class DirectorySettings(ServiceSettings):
    """What the service and its commands read."""

    model_config = SettingsConfigDict(env_prefix="MAILROOM_DIRECTORY_", extra="ignore")

    seal_key_file: Path | None = Field(
        default=None,
        description="file of the public key that passwords are sealed to, made by "
        "`mailroom account keys FOLDER`; needed to store a password",
    )

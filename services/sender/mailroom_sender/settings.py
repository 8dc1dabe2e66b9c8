"""The sender's environment variables: MAILROOM_SENDER_…"""

from datetime import timedelta
from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict

from mailroom import directory
from mailroom.settings import ServiceSettings, SettingsRefused


class SenderSettings(ServiceSettings):
    """What the sender reads besides what every service reads."""

    model_config = SettingsConfigDict(env_prefix="MAILROOM_SENDER_", extra="ignore")

    unseal_keys_file: Path = Field(
        description="private keys that open the accounts' passwords, newest first; required"
    )
    retry_minutes: tuple[float, ...] = Field(
        default=(1, 5, 15, 60, 240),
        min_length=1,
        description="minutes before each next try, as JSON; the last is repeated",
    )
    retry_days: float = Field(
        default=3, gt=0, le=30, description="days after which a mail that cannot leave has failed"
    )
    filing_days: float = Field(
        default=30, gt=0, description="days after which a copy to Sent is given up"
    )
    unknown_tries: int = Field(
        default=3,
        ge=1,
        le=10,
        description="tries of unknown end after which a mail waits for a person",
    )
    keep_days: int = Field(
        default=400, ge=400, description="days that idempotency keys are remembered, 400 at least"
    )
    size_limit_mb: int = Field(
        default=25, ge=1, description="megabytes that the attachments of a mail have at most"
    )
    rate_per_minute: int = Field(
        default=600, ge=1, description="mails that an account sends within any minute, at most"
    )
    lease_seconds: float = Field(
        default=15,
        ge=0.5,
        description="seconds without a sign of life after which others take an account over",
    )
    idle_seconds: float = Field(
        default=30, ge=0, description="seconds that an unused connection is kept open"
    )
    poll_seconds: float = Field(
        default=1, gt=0, description="seconds between two looks for mails that have become due"
    )
    answer_seconds: float = Field(
        default=300, gt=0, description="seconds that a server has to answer a command (RFC 5321)"
    )
    data_seconds: float = Field(
        default=600,
        gt=0,
        description="seconds that a server has to take a mail and to answer it (RFC 5321)",
    )
    helo: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9.:\[\]-]*$",
        description="name given in EHLO; empty takes this machine's name",
    )

    @field_validator("retry_minutes")
    @classmethod
    def _pauses_are_pauses(cls, minutes: tuple[float, ...]) -> tuple[float, ...]:
        if any(pause <= 0 for pause in minutes):
            raise ValueError("each pause must be above 0 minutes, or servers would be hammered")
        return minutes

    @field_validator("poll_seconds")
    @classmethod
    def _leases_are_watched(cls, poll: float, info: ValidationInfo) -> float:
        if poll > info.data.get("lease_seconds", poll) / 2:
            raise ValueError("must be at most half of MAILROOM_SENDER_LEASE_SECONDS")
        return poll

    def read_files(self) -> None:
        """The keys. Raises SettingsRefused."""
        try:
            directory.load_keys(self.unseal_keys_file)
        except directory.KeyFileRefused as refused:
            raise SettingsRefused(f"MAILROOM_SENDER_UNSEAL_KEYS_FILE: {refused}") from None

    @property
    def pauses(self) -> tuple[timedelta, ...]:
        """`retry_minutes`, ready to be added to a time."""
        return tuple(timedelta(minutes=minutes) for minutes in self.retry_minutes)

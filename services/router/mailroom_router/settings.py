"""The router's environment variables: MAILROOM_ROUTER_…"""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from mailroom.settings import ServiceSettings


class RouterSettings(ServiceSettings):
    """What the router reads beside the common settings."""

    model_config = SettingsConfigDict(env_prefix="MAILROOM_ROUTER_", extra="ignore")

    reading_seconds: float = Field(
        default=20.0,
        gt=0,
        le=600,
        description="seconds that one mail may take to be read; it is tried again, and then parked",
    )

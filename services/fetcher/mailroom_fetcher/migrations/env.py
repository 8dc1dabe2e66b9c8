"""Alembic's way into the fetcher's tables."""

from mailroom.migrations import run_in_env
from mailroom_fetcher.store import metadata

run_in_env(metadata)

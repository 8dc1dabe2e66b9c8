"""Alembic's entry: ticketing's schema."""

from mailroom.migrations import run_in_env
from mailroom_ticketing.store import metadata

run_in_env(metadata)

"""Alembic's entry: the router's schema."""

from mailroom.migrations import run_in_env
from mailroom_router.store import metadata

run_in_env(metadata)

"""Alembic's way into the directory's tables."""

from mailroom.migrations import run_in_env
from mailroom_directory.store import metadata

run_in_env(metadata)

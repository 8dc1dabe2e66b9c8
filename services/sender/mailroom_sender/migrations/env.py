"""Alembic's entry: the sender's schema."""

from mailroom.migrations import run_in_env
from mailroom_sender.store import metadata

run_in_env(metadata)

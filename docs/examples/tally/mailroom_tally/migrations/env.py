"""Run by `mailroom migrate`."""

from mailroom.migrations import run_in_env
from mailroom_tally.store import metadata

run_in_env(metadata)

"""`mailroom`, and `python -m mailroom`."""

import gc


def main() -> None:
    """The console script."""
    # See `cli.importing`, which is part of what is imported.
    gc.disable()
    from mailroom import cli  # noqa: PLC0415

    gc.enable()
    cli.main()


if __name__ == "__main__":
    main()

"""Entry point of the `sluice` command and of `python -m gateway`."""

from __future__ import annotations


def main() -> None:
    """Run the command line. Only here and below `gateway.cli` is the environment read."""
    from gateway.cli.app import app

    app()


if __name__ == "__main__":
    main()

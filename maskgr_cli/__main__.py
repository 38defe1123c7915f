"""Entry point of the program. Signal handlers are installed before any import that takes time."""

from __future__ import annotations

from maskgr_cli import signals


def main() -> None:
    """Run `maskgr` or `python -m maskgr_cli`."""
    signals.exit_on_signal()
    from pipelines.orphans import end_with_parent

    end_with_parent()
    from maskgr_cli.app import main as run

    run()


if __name__ == "__main__":
    main()

"""The program's first moment: a signal is heeded before anything that takes time is imported."""

from __future__ import annotations

from maskgr_cli import signals


def main() -> None:
    """Entry point of `maskgr` and `python -m maskgr_cli`."""
    signals.leave_at_once()
    from pipelines.orphans import end_with_parent

    end_with_parent()
    from maskgr_cli.app import main as run

    run()


if __name__ == "__main__":
    main()

"""What ``python -m gsmflow`` and the installed command run: the command line."""

import signal

__all__ = ["main"]


def main() -> None:
    """Import the command line and run it; Ctrl-C ends the import without a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from gsmflow.cli.main import main as run

    run()


if __name__ == "__main__":
    main()

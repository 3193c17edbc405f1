"""What ``python -m gsmflow`` runs: the command line."""

from gsmflow.cli.main import main

if __name__ == "__main__":
    main()

"""What ``python -m benchmarks.speed`` runs, in the repository's root."""

from benchmarks.speed.command import main

if __name__ == "__main__":
    main()

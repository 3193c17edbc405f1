"""Entry point of ``python -m benchmarks.speed``, in the root of the repository."""

from benchmarks.speed.command import main

if __name__ == "__main__":
    main()

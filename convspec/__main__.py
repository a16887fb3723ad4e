"""``python -m convspec`` is the ``convspec`` command."""

from convspec.cli import main

if __name__ == "__main__":
    main()

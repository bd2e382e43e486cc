"""The way in: `ftcli`, `python -m ftcli` and `accelerate launch -m ftcli`."""

import sys


def main() -> None:
    """Run the command line. A Ctrl-C that comes while it is still being imported ends with 130 too."""
    try:
        from ftcli.cli import app

        app(prog_name="ftcli", args=sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()

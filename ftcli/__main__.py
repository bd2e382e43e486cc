"""`python -m ftcli` and `accelerate launch -m ftcli`."""

from ftcli.cli import main

if __name__ == "__main__":
    main()

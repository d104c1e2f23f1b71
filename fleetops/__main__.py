"""`python -m fleetops` is the `fleetops` command."""

from fleetops.cli import main

if __name__ == "__main__":
    main()

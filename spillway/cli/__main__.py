"""`python -m spillway.cli`: the `spillway` command without its script."""

from spillway.cli import main

if __name__ == "__main__":
    main()

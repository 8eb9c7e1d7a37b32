"""`python -m penchant` is the same as the `penchant` command."""

from penchant.cli.main import main

if __name__ == "__main__":
    main()

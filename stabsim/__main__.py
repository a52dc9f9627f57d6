"""``python -m stabsim``: the command line."""

from stabsim.cli import main

if __name__ == "__main__":
    main()

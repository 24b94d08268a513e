"""`python -m calque`: the command line for launchers such as `torchrun -m calque train ...`."""

from calque.cli import main

if __name__ == "__main__":
    main()

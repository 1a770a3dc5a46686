"""`python -m bench.invoke`."""

import sys

from bench.invoke import main

if __name__ == "__main__":
    sys.exit(main())

"""`python -m bench.coldstart`."""

import sys

from bench.coldstart import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""``python -m rdahub``."""

import sys

from rdahub.cli import main

if __name__ == "__main__":
    sys.exit(main())

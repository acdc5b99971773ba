"""`python -m ecg_transformers` is the command `ecg-transformers`."""

import sys

from ecg_transformers.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""`python -m crdtcache` is the `crdtcache` command, for where the script is not on the path."""

import sys

from crdtcache.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""The Claude Code hook, under the name that settings files know it by."""

import sys

from plutus_agent.hook import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())

"""`python -m gputape` is the command `gputape`."""

import sys

from .cli import main

sys.exit(main())

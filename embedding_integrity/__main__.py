"""`python -m embedding_integrity` is the command."""

from __future__ import annotations

import sys

from embedding_integrity.command import main

sys.exit(main())

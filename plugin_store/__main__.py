"""``python -m plugin_store``: the command ``plugin-store``."""

from .cli import main

raise SystemExit(main())

"""The demo: a Flask service with one plugin (service.py), and the operator's session on it (play.py).

``flask --app plugin_store.demo run`` runs the service, ``plugin-store demo`` plays the session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask


def create_app() -> Flask:
    """Return a new app of the service; see service.py."""
    # Not at the top: play.py, which says what to install when Flask is missing, imports this file first.
    from .service import create_app

    return create_app()

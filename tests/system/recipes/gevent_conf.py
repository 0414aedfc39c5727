"""Settings of gunicorn for gevent with --preload: patch before the app and psycopg are imported."""

from gevent import monkey

monkey.patch_all()
worker_class = "gevent"

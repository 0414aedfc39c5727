"""What gunicorn or uWSGI loads."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "django_site.settings")
application = get_wsgi_application()

from . import plugins  # noqa: E402  (Django reads its settings first)

plugins.follow_the_table()

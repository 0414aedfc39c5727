"""The settings that the recipe needs."""

import os

from psycopg.conninfo import conninfo_to_dict

database = conninfo_to_dict(os.environ["DATABASE_URL"])
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": database.pop("dbname", ""),
        "USER": database.pop("user", ""),
        "PASSWORD": database.pop("password", ""),
        "HOST": database.pop("host", ""),
        "PORT": database.pop("port", ""),
        "OPTIONS": database,  # libpq's other parameters
    }
}
INSTALLED_APPS = ["django_site.apps.SiteConfig"]
ROOT_URLCONF = "django_site.urls"
SECRET_KEY = "for tests only"
ALLOWED_HOSTS = ["127.0.0.1", "testserver"]
USE_TZ = True

"""Settings of a django-helpdesk on PostgreSQL; DATABASE_URL and FOLDER say where."""

import os
from urllib.parse import urlsplit

_database = urlsplit(os.environ["DATABASE_URL"])
_folder = os.environ["FOLDER"]

SECRET_KEY = "of no use to anybody"  # noqa: S105 -- it lives for one measurement
ROOT_URLCONF = "peer_urls"
USE_TZ = True
SITE_ID = 1
MEDIA_ROOT = _folder
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
# Its answers would be sent in the same process; ours are left out of the figure too.
EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
# As its documentation says for an installation without teams.
HELPDESK_TEAMS_MODEL = "auth.User"
HELPDESK_TEAMS_MIGRATION_DEPENDENCIES: list[tuple[str, str]] = []
HELPDESK_KBITEM_TEAM_GETTER = lambda _: None  # noqa: E731 -- a setting
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.sites",
    "django.contrib.messages",
    "django.contrib.humanize",
    "rest_framework",
    "helpdesk",
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _database.path[1:],
        "HOST": _database.hostname,
        "PORT": _database.port,
        "USER": _database.username,
        "PASSWORD": _database.password,
    }
}

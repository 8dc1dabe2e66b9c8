"""Where the other help desk's pages would be: it writes their addresses into its answers."""

from django.urls import include, path

urlpatterns = [path("", include("helpdesk.urls", namespace="helpdesk"))]

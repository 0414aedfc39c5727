"""Views, and the decorator that hides a view while its plugin is not enabled."""

import os
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.db import connection, transaction
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from plugin_store import PluginConfigRepository

from . import plugins
from .models import Order

View = Callable[..., HttpResponse]


def plugin_required(name: str) -> Callable[[View], View]:
    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if not plugins.manager.is_enabled(name):
                raise Http404
            return view(request, *args, **kwargs)

        return guarded

    return decorate


@plugin_required("greeter")
def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse(plugins.manager.get_plugin("greeter").get_config("greeting"))


def close_for_today(request: HttpRequest) -> HttpResponse:
    """Change the site's rows and a plugin's row in one transaction, on Django's connection."""
    with transaction.atomic():
        Order.objects.all().delete()
        connection.ensure_connection()
        PluginConfigRepository(connection.connection).save("greeter", "disabled", {"greeting": "closed"})
    return HttpResponse()


def healthz(request: HttpRequest) -> HttpResponse:
    names = [plugin.metadata.name for plugin in plugins.manager.get_enabled_plugins()]
    return JsonResponse({"process": os.getpid(), "enabled": names})


urlpatterns = [path("hello", hello), path("close-for-today", close_for_today), path("healthz", healthz)]

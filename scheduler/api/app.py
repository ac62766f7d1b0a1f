"""The API as an ASGI application."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.types import ASGIApp

from scheduler.api.control import Control
from scheduler.api.openapi import document_route
from scheduler.api.operations import Operation, routes
from scheduler.api.problems import HANDLERS
from scheduler.api.routes import cache, configuration, events, health, page, replaced, runs, tasks

# The old paths first: one of them would else be a task's name.
_SUBJECTS = (health, replaced, configuration, tasks, runs, cache, events)


def operations(control: Control) -> list[Operation]:
    """All that can be asked, in the order in which paths are compared."""
    return [each for subject in _SUBJECTS for each in subject.operations(control)]


def build_app(control: Control) -> ASGIApp:
    every = operations(control)
    paths = [*routes(every), document_route(every), *page.routes()]
    app = Starlette(routes=paths, exception_handlers=dict(HANDLERS))
    app.router.redirect_slashes = False  # a path that is wrong is not found
    return app

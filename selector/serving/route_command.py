"""The command ``route``: a router for applications in any language."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selector.commands.options import DEVICE_PANEL, names_in
from selector.commands.say import say
from selector.serving.command import TOKEN, begin_serving, serving_token
from zoo.errors import MissingExtraError
from zoo.extras import install_command


def route(
    folder: Annotated[Path, typer.Argument(help="Folder of a router, made by 'zooselect export'.")],
    host: Annotated[
        str, typer.Option(help="Address to listen on. Others reach it over a proxy with TLS.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any that is free.")] = 8000,
    models: Annotated[
        str, typer.Option("--models", help="Models that the application can run. Default: all.")
    ] = "",
    watch: Annotated[bool, typer.Option(help="Notice inputs that are unlike those of the table.")] = False,
    max_open: Annotated[int, typer.Option(min=1, help="Inputs under way; more are refused.")] = 10_000,
    forget_after: Annotated[
        float,
        typer.Option(min=0.001, help="Seconds after which an input is forgotten that nothing is told about."),
    ] = 600.0,
    token_file: Annotated[
        Path | None,
        typer.Option(help=f"File with the token that requests must bring. Or set {TOKEN}. Default: none."),
    ] = None,
) -> None:
    """Decide for other programs which of their models to run, as JSON over HTTP, until interrupted.

    POST /v1/start with features names a model to run; POST /v1/tell with what it said names the next one, or
    says whose answer counts; GET /v1/health says what is served. Example: zooselect route my-router
    """
    try:
        from selector.fleet.server import address_of, bind, serve
        from selector.serving.routes import RouteServer, make_route_app
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"serving needs the package {error.name!r}: {install_command('serve')}"
        ) from error
    from selector.routing.router import Router

    token = serving_token(token_file)
    router = Router.load(folder, models=names_in(models) or None, watch=watch)
    begin_serving(host, token, what="features")
    server = RouteServer(router, token=token, most_open=max_open, forget_after_s=forget_after)
    with bind(host, port) as listening:
        say(f"{', '.join(router.models)} at {address_of(listening)}/v1")
        serve(make_route_app(server), listening)


def register(app: typer.Typer) -> None:
    """Add the command of this file to the command line."""
    app.command(rich_help_panel=DEVICE_PANEL)(route)

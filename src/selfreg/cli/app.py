"""The application that the verbs register with."""

from typing import Annotated

import typer

from selfreg.messages import say

app = typer.Typer(
    help="Self-regulation for semantic segmentation: train, evaluate, compare, predict.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(show: bool) -> None:
    if show:
        from importlib.metadata import version

        say(f"selfreg {version('selfreg')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass

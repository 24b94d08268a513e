"""`calque serve`: its options, and the call."""

# ruff: noqa: PLC0415
# FastAPI and PyTorch take seconds to import.

from collections.abc import Sequence
from pathlib import Path
from re import fullmatch
from typing import Annotated

import typer
from rich.console import Console

from calque.config import CalqueError

Runs = Annotated[
    list[Path], typer.Argument(metavar="RUN...", help="Run folders, one for each language pair.")
]
Host = Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Where to listen.")]
Port = Annotated[
    int, typer.Option("--port", min=0, max=65535, metavar="N", help="0 is a free one.")
]
ApiKeys = Annotated[
    Path | None,
    typer.Option("--api-keys", metavar="FILE", help="Keys, one on a line; requests need one."),
]
Cors = Annotated[
    list[str] | None,
    typer.Option("--cors", metavar="ORIGIN", help="Web pages from there may ask too; repeatable."),
]
Characters = Annotated[
    int, typer.Option("--max-characters", min=1, metavar="N", help="Of a request's text.")
]
Waiting = Annotated[
    int,
    typer.Option(
        "--max-waiting", min=1, metavar="N", help="Sentences that wait; then requests get 503."
    ),
]
Seconds = Annotated[
    float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="For one request.")
]
Grace = Annotated[
    float,
    typer.Option(
        "--grace", min=1, metavar="SECONDS", help="To finish what was accepted, at the end."
    ),
]


def serve(
    runs: Runs,
    host: Host = "127.0.0.1",
    port: Port = 5000,
    api_keys: ApiKeys = None,
    cors: Cors = None,
    max_characters: Characters = 5000,
    max_waiting: Waiting = 1000,
    timeout: Seconds = 30.0,
    grace: Grace = 30.0,
) -> None:
    """Serve runs over HTTP, by LibreTranslate's API; a page is at /.

    A run folder that is replaced is taken into use without a break. SIGTERM or Ctrl-C ends it
    when what was accepted is done.
    """
    import torch

    from calque.serving.app import Settings
    from calque.serving.limits import Limits
    from calque.serving.server import serve as start

    _refuse_no_origins(cors or ())
    limits = Limits(characters=max_characters, waiting=max_waiting, seconds=timeout, grace=grace)
    settings = Settings(limits=limits, api_keys=api_keys, origins=cors or ())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    errors = Console(stderr=True)
    start(
        runs,
        host,
        port,
        settings,
        device,
        lambda address: errors.print(f"serving at {address}", highlight=False, soft_wrap=True),
    )


def _refuse_no_origins(origins: Sequence[str]) -> None:
    for origin in origins:
        # As browsers send it: compared letter by letter, another form would never be met.
        if origin != "*" and not fullmatch(r"https?://[^/?#\s]+", origin):
            raise CalqueError(
                f"--cors {origin}: not an origin; write it as https://example.org, without a path, "
                "or * for any"
            )

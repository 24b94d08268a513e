"""The process that serves: its socket, its log and its end."""

import logging
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import uvicorn

from calque.config import CalqueError
from calque.serving.app import Settings, create_app
from calque.training.memory import forget_old_kernels


def serve(
    runs: Sequence[Path],
    host: str,
    port: int,
    settings: Settings,
    device: str,
    announce: Callable[[str], None],
) -> None:
    """Serve runs until SIGTERM or Ctrl-C; what was accepted by then is finished, within a limit.

    `announce` is called with the address once it can be asked; port 0 takes a free one. Raises
    CalqueError for an address that cannot be had, or what `create_app` cannot use.
    """
    forget_old_kernels()
    with _bound(host, port) as listening:
        app = create_app(runs, settings, device)
        logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
        logging.getLogger("calque.serving").setLevel(logging.INFO)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=round(settings.limits.grace) or 1,
        )
        listening.listen(config.backlog)
        shown = f"[{host}]" if ":" in host else host
        announce(f"http://{shown}:{listening.getsockname()[1]}")
        # uvicorn raises the signal anew when all is done; to be told to end is no failure.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        uvicorn.Server(config).run(sockets=[listening])


def _bound(host: str, port: int) -> socket.socket:
    bound = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        if bound:
            bound.close()
        raise CalqueError(f"{host}:{port}: cannot listen there: {error.strerror}") from None
    return bound

"""The app: what is answered at which path."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from calque.serving import libretranslate, modelwise, sentencewise
from calque.serving.files import add_page
from calque.serving.gate import Gate, refusal
from calque.serving.keys import Keys
from calque.serving.languages import Detector
from calque.serving.limits import Limits, Refused
from calque.serving.messages import explained
from calque.serving.metrics import Metrics
from calque.serving.runs import Runs
from calque.serving.service import Service

DESCRIPTION = "Translations by models of calque. The API of LibreTranslate, and more under /v1."

log = logging.getLogger("calque.serving")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a server is started with."""

    limits: Limits = field(default_factory=Limits)
    api_keys: Path | None = None
    """File with a key on each line; None: no key is asked for."""
    origins: Sequence[str] = ()
    """Of web pages elsewhere that may ask (CORS)."""


def create_app(runs: Sequence[Path], settings: Settings, device: str = "cpu") -> FastAPI:
    """Load run folders and make the app that serves them.

    Raises CalqueError for a run or a file of keys that cannot be used.
    """
    metrics, limits = Metrics(), settings.limits
    keys = Keys(settings.api_keys)
    loaded = Runs(runs, device, limits, metrics)
    served = {code for run in loaded for code in (run.source, run.target)}
    service = Service(loaded, keys, Detector(served), limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(loaded.watch())
        yield
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        loaded.close()

    app = FastAPIOffline(redoc_url=None, title="calque", description=DESCRIPTION, lifespan=lifespan)
    _add_errors(app)
    _add_operations(app, loaded, metrics)
    app.include_router(libretranslate.routes(service))
    app.include_router(sentencewise.routes(service))
    app.include_router(modelwise.routes(service))
    known = list(app.openapi()["paths"])
    add_page(app)
    app.add_middleware(Gate, limits=limits, metrics=metrics, paths=known)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Content-Type"],
        )
    return app


def _add_operations(app: FastAPI, runs: Runs, metrics: Metrics) -> None:
    @app.get("/health", tags=["operation"])
    async def health() -> dict[str, str]:
        """Whether the server is alive."""
        return {"status": "ok"}

    @app.get("/ready", tags=["operation"])
    async def ready() -> dict[str, Any]:
        """What is served. A broken run folder is told; the model from before it stays in use."""
        told = [
            {"source": run.source, "target": run.target, "folder": "broken" if run.broken else "ok"}
            for run in runs
        ]
        return {"status": "ready", "runs": told}

    @app.get("/metrics", tags=["operation"], response_class=Response)
    async def exposition() -> Response:
        """What was counted, for Prometheus."""
        return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


def _add_errors(app: FastAPI) -> None:
    """Every error is an object with one key, and says nothing of files or code."""

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        return refusal(error)

    @app.exception_handler(HTTPException)
    async def unknown(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"error": explained(error.errors())}, 400)

    @app.exception_handler(Exception)
    async def failed(_: Request, _error: Exception) -> JSONResponse:
        return JSONResponse({"error": "Internal error"}, 500)

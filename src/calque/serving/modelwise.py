"""Endpoints that show a model by itself: its positions, its vocabulary, its training."""

import asyncio
import json
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from fastapi import APIRouter
from fastapi.responses import Response

from calque.config import CalqueError
from calque.inspection.embeddings import embeddings
from calque.inspection.positions import positions
from calque.inspection.training import training
from calque.serving.libretranslate import ERRORS
from calque.serving.limits import Refused
from calque.serving.messages import Pair
from calque.serving.runs import Run
from calque.serving.service import Service
from calque.translator import Translator

RESPONSES = {**ERRORS, "4XX": ERRORS[400]}


def routes(service: Service) -> APIRouter:
    """The endpoints; docs/looking-inside.md has what they answer."""
    router = APIRouter(prefix="/v1", tags=["calque"])
    seen = _Seen()

    @router.post("/positions", response_class=Response, responses=RESPONSES)
    async def positions_of(asked: Pair) -> Response:
        """How the model knows where a token stands."""
        return await seen.of(_run(service, asked), positions)

    @router.post("/embeddings", response_class=Response, responses=RESPONSES)
    async def embeddings_of(asked: Pair) -> Response:
        """The vocabulary as points, and which of its pieces are alike."""
        return await seen.of(_run(service, asked), embeddings)

    @router.post("/training", response_class=Response, responses=RESPONSES)
    async def training_of(asked: Pair) -> Response:
        """What was recorded while the model was trained."""
        run = _run(service, asked)
        try:
            (course,) = await asyncio.to_thread(training, [run.path])
        except CalqueError:  # which names the file
            raise Refused(404, "This run has no record of its training") from None
        course["name"] = f"{run.source}-{run.target}"
        return Response(_json({"training": [course]}), media_type="application/json")

    return router


class _Seen:
    """What there is to see of each model, found once, beside the thread that translates."""

    def __init__(self) -> None:
        self._found: WeakKeyDictionary[Translator, dict[str, asyncio.Future[bytes]]] = (
            WeakKeyDictionary()
        )

    async def of(self, run: Run, look: Callable[[Translator], dict[str, Any]]) -> Response:
        translator, name = run.loaded.translator, look.__name__
        found = self._found.setdefault(translator, {})
        if name not in found:
            looking = asyncio.to_thread(lambda: _json({name: look(translator)}))
            found[name] = asyncio.ensure_future(looking)
        # Whoever stops waiting leaves it to those who come later.
        return Response(await asyncio.shield(found[name]), media_type="application/json")


def _run(service: Service, asked: Pair) -> Run:
    service.admit(asked.api_key, [])
    return service.find(asked.source, asked.target)


def _json(seen: dict[str, Any]) -> bytes:
    return json.dumps(seen, ensure_ascii=False, separators=(",", ":")).encode()

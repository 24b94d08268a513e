"""Endpoints of our own: sentences with their words, other ways to go on, and looks."""

import json
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from calque.config import CalqueError
from calque.inspection import look
from calque.serving import loaded as models
from calque.serving.libretranslate import ERRORS, told
from calque.serving.limits import Refused
from calque.serving.loaded import Linked, Loaded
from calque.serving.messages import Alternatives, Beginning, LinkedText, Sentence, Sight
from calque.serving.runs import Run
from calque.serving.service import Service
from calque.serving.translation import translate_texts

RESPONSES = {**ERRORS, "4XX": ERRORS[400]}


def routes(service: Service) -> APIRouter:
    """The endpoints."""
    router = APIRouter(prefix="/v1", tags=["calque"])

    @router.post(
        "/translate",
        response_model=LinkedText,
        response_model_exclude_none=True,
        responses=RESPONSES,
    )
    async def translate(asked: Sentence) -> dict[str, Any]:
        """Translate a text; each sentence with its words, and which of them belong together."""
        return await _linked(service, asked)

    @router.post("/alternatives", response_model=Alternatives, responses=RESPONSES)
    async def alternatives(asked: Beginning) -> dict[str, Any]:
        """Translations of a sentence that begin with a prefix and then go on differently."""
        run = _sentence(service, asked, asked.prefix)
        found = await service.runs.consider(
            _alternatives, run.loaded, asked.q, asked.prefix, asked.number
        )
        return {"alternatives": found}

    @router.post("/look", response_class=Response, responses=RESPONSES)
    async def look_at(asked: Sight) -> Response:
        """All that can be seen of the model while it translates a sentence."""
        run = _sentence(service, asked)
        seen = await service.runs.consider(_look, run.loaded, asked.q, asked.beginning)
        return Response(seen, media_type="application/json")

    return router


async def _linked(service: Service, asked: Sentence) -> dict[str, Any]:
    service.admit(asked.api_key, [asked.q])
    run, detected = service.choose(asked.source, asked.target, [asked.q])
    run = _needed(run)
    (found,) = await translate_texts(run, [asked.q], [True])
    before, *afters = list(found.cut.pieces(found.cut.sentences, run.target))[::2]
    return {
        "source": run.source,
        "target": run.target,
        "before": before,
        "sentences": [
            _told(words, one.n_best[0].score) | {"after": after}
            for words, one, after in zip(found.linked, found.found, afters, strict=True)
        ],
        "detectedLanguage": told(detected) if detected else None,
    }


def _sentence(service: Service, asked: Sentence, prefix: str = "") -> Run:
    """The run for one sentence, which is not empty."""
    service.admit(asked.api_key, [asked.q, prefix])
    run, _ = service.choose(asked.source, asked.target, [asked.q])
    if not asked.q.strip():
        raise Refused(400, "Invalid request: q is empty")
    return _needed(run)


def _needed(run: Run | None) -> Run:
    if run is None:
        raise Refused(400, "The text is in the target language already")
    return run


def _told(linked: Linked, score: float) -> dict[str, Any]:
    return {
        "source": linked.source,
        "target": linked.target,
        "links": linked.links,
        "score": score,
    }


def _alternatives(loaded: Loaded, line: str, prefix: str, number: int) -> list[dict[str, Any]]:
    try:
        found: list[models.Alternative] = loaded.alternatives(line, prefix, number)
    except CalqueError as error:
        raise Refused(400, f"Invalid request: {error}") from None
    linked = loaded.link([line] * len(found), [one.translation for one in found])
    return [
        {
            "probability": one.probability,
            "beginning": one.beginning,
            "sentence": _told(words, one.translation.score),
        }
        for one, words in zip(found, linked, strict=True)
    ]


def _look(loaded: Loaded, line: str, beginning: Sequence[int]) -> bytes:
    try:
        seen = look(loaded.translator, line, beginning)
    except CalqueError as error:
        raise Refused(400, f"Invalid request: {error}") from None
    return json.dumps(seen.to_json(), ensure_ascii=False, separators=(",", ":")).encode()

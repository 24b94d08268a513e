"""LibreTranslate's endpoints (docs.libretranslate.com), so that its clients work here."""

from typing import Any

from fastapi import APIRouter, Request

from calque.serving.languages import Detected, name_of
from calque.serving.messages import (
    Detect,
    Detection,
    Error,
    Language,
    Translate,
    Translation,
    accepts,
    read,
)
from calque.serving.runs import Runs
from calque.serving.service import Service
from calque.serving.translation import translate_documents, translate_texts

ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": Error, "description": "Invalid request"},
    403: {"model": Error, "description": "Invalid API key"},
    408: {"model": Error, "description": "The request did not arrive in time"},
    413: {"model": Error, "description": "Body too large"},
    503: {"model": Error, "description": "Too busy; see Retry-After"},
}


def routes(service: Service) -> APIRouter:
    """The endpoints."""
    router = APIRouter(tags=["LibreTranslate"])

    @router.post(
        "/translate",
        response_model=Translation,
        response_model_exclude_none=True,
        responses=ERRORS,
        openapi_extra=accepts(Translate),
    )
    async def translate(request: Request) -> dict[str, Any]:
        """Translate a text, or several."""
        return await _translated(service, await read(request, Translate))

    @router.post(
        "/detect",
        response_model=list[Detection],
        responses=ERRORS,
        openapi_extra=accepts(Detect),
    )
    async def detect(request: Request) -> list[dict[str, Any]]:
        """Detect the language of a text, among those that are served."""
        asked = await read(request, Detect)
        service.admit(asked.api_key, [asked.q])
        return [told(one) for one in service.detector.detect(asked.q)]

    @router.get("/languages", response_model=list[Language])
    async def languages() -> list[dict[str, Any]]:
        """The source languages, and the targets of each."""
        return known_languages(service.runs)

    @router.get("/frontend/settings")
    async def settings() -> dict[str, Any]:
        """What a user interface has to know."""
        return _settings(service)

    return router


async def _translated(service: Service, asked: Translate) -> dict[str, Any]:
    texts = [asked.q] if isinstance(asked.q, str) else asked.q
    service.admit(asked.api_key, texts)
    run, detected = service.choose(asked.source, asked.target, texts)
    others: list[list[str]] = [[] for _ in texts]
    if run is None:
        translated = texts
    elif asked.format == "html":
        translated = await translate_documents(run, texts)
    else:
        found = await translate_texts(run, texts, [False] * len(texts))
        translated = [one.text for one in found]
        others = [one.alternatives(asked.alternatives) for one in found]
    answer: dict[str, Any] = {"translatedText": translated}
    if detected:
        answer["detectedLanguage"] = [told(detected)] * len(texts)
    if asked.alternatives:
        answer["alternatives"] = others
    if isinstance(asked.q, str):
        return {key: values[0] for key, values in answer.items()}
    return answer


def _settings(service: Service) -> dict[str, Any]:
    first = next(iter(service.runs))
    sides = {"source": first.source, "target": first.target}
    return {
        "apiKeys": service.keys.required,
        "charLimit": service.limits.characters,
        "filesTranslation": False,
        "frontendTimeout": 500,
        "keyRequired": service.keys.required,
        "language": {s: {"code": code, "name": name_of(code)} for s, code in sides.items()},
        "suggestions": False,
        "supportedFilesFormat": [],
    }


def known_languages(runs: Runs) -> list[dict[str, Any]]:
    """Each language that is served, with what it can be translated to."""
    targets: dict[str, list[str]] = {}
    for run in runs:
        targets.setdefault(run.source, []).append(run.target)
        targets.setdefault(run.target, [])
    return [
        {"code": code, "name": name_of(code), "targets": sorted(to)}
        for code, to in sorted(targets.items())
    ]


def told(detected: Detected) -> dict[str, Any]:
    """A detected language as LibreTranslate has it."""
    return {"confidence": detected.confidence, "language": detected.language}

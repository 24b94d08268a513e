"""The API asked at random, as its own OpenAPI description allows and forbids."""

from typing import Any

import httpx2
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import APIOperation, BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
CASES = 40  # for each mode: of everything, and of translating


def name_languages(described: Any) -> None:
    """Have some requests get as far as a model: they name languages that are served."""
    if isinstance(described, dict):
        properties = described.get("properties")
        if isinstance(properties, dict) and "q" in properties and "target" in properties:
            properties["source"] = {"enum": ["en", "de", "auto", "fr"]}
            properties["target"] = {"enum": ["en", "de"]}
        described = list(described.values())
    if isinstance(described, list):
        for value in described:
            name_languages(value)


@pytest.mark.parametrize("mode", GenerationMode)
def test_nothing_is_answered_but_what_is_described(client: httpx2.Client, mode: GenerationMode):
    described = client.get("/openapi.json").json()
    name_languages(described)
    schema = schemathesis.openapi.from_dict(described)
    answered: set[tuple[str, int]] = set()

    with requests.Session() as session:

        @settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
        @given(data=st.data())
        def ask(asked: BaseSchema | APIOperation, data: st.DataObject) -> None:
            case = data.draw(asked.as_strategy(mode))
            response = case.call_and_validate(
                str(client.base_url), session, checks=CHECKS, timeout=30
            )
            answered.add((case.path, response.status_code))

        ask(schema)
        ask(schema["/translate"]["POST"])
    assert ("/translate", 200 if mode is GenerationMode.POSITIVE else 400) in answered
    assert client.get("/health").status_code == 200

"""What requests say and what they are answered, as the OpenAPI description has it."""

from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import parse_qsl

from fastapi import Request
from fastapi.openapi.constants import REF_TEMPLATE
from pydantic import AfterValidator, BaseModel, Field, ValidationError
from pydantic_core import PydanticCustomError
from starlette.exceptions import HTTPException

from calque.serving.limits import Refused

Message = TypeVar("Message", bound=BaseModel)


def _is_text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("half", "half of a surrogate pair is no text") from None
    return value


Text = Annotated[str, AfterValidator(_is_text)]
Code = Annotated[Text, Field(description="Language code", examples=["en", "de"])]
Source = Annotated[
    Text, Field(description="Language code, or auto to detect it", examples=["en", "auto"])
]
Key = Annotated[Text | None, Field(description="API key, where the server asks for one")]


class Translate(BaseModel):
    """LibreTranslate's request for translation."""

    q: Annotated[
        Annotated[Text, Field(min_length=1)] | Annotated[list[Text], Field(min_length=1)],
        Field(description="Text to translate, or several", examples=["A dog runs."]),
    ]
    source: Source
    target: Code
    format: Annotated[Literal["text", "html"], Field(description="With html, tags are kept")] = (
        "text"
    )
    alternatives: Annotated[
        int, Field(ge=0, description="How many other translations are wanted; none of html")
    ] = 0
    api_key: Key = None


class Detect(BaseModel):
    """LibreTranslate's request for the language of a text."""

    q: Annotated[Text, Field(min_length=1, description="Text whose language is wanted")]
    api_key: Key = None


class Pair(BaseModel):
    """A pair of languages, and so the model that is served for it."""

    source: Code
    target: Code
    api_key: Key = None


class Sentence(BaseModel):
    """One sentence for the endpoints under /v1."""

    q: Annotated[Text, Field(description="Text", examples=["A dog runs."])]
    source: Source
    target: Code
    api_key: Key = None


class Beginning(Sentence):
    """A sentence, and how its translation begins."""

    prefix: Annotated[
        Text,
        Field(description="Beginning; with a space at its end, the next word is another one"),
    ] = ""
    number: Annotated[int, Field(ge=1, le=10, description="How many")] = 5


class Sight(Sentence):
    """A sentence to look at, and the tokens that its translation begins with."""

    beginning: Annotated[
        list[Annotated[int, Field(ge=0)]],
        Field(description="As an alternative has it; without, the model's own translation is seen"),
    ] = Field(default_factory=list)


class Error(BaseModel):
    """What an error is told by."""

    error: str


class Detection(BaseModel):
    confidence: Annotated[float, Field(description="In percent")]
    language: str


class Translation(BaseModel):
    translatedText: str | list[str]  # noqa: N815
    detectedLanguage: Detection | list[Detection] | None = None  # noqa: N815
    alternatives: list[str] | list[list[str]] | None = None


class Language(BaseModel):
    code: str
    name: str
    targets: list[str]


class LinkedSentence(BaseModel):
    source: Annotated[
        list[str], Field(description="Words with the white space after them; joined, the sentence")
    ]
    target: list[str]
    links: Annotated[
        list[tuple[int, int]],
        Field(description="Places in target and in source of words that belong together"),
    ]
    score: Annotated[float, Field(description="Log-probability over the length penalty, in nats")]
    after: Annotated[str, Field(description="White space after the translation")] = ""


class LinkedText(BaseModel):
    source: str
    target: str
    before: Annotated[str, Field(description="White space before the first sentence")]
    sentences: list[LinkedSentence]
    detectedLanguage: Detection | None = None  # noqa: N815


class Alternative(BaseModel):
    probability: Annotated[float, Field(description="Of the first token after the prefix")]
    beginning: Annotated[list[int], Field(description="Its tokens up to that one, for a look")]
    sentence: LinkedSentence


class Alternatives(BaseModel):
    alternatives: list[Alternative]


async def read(request: Request, message: type[Message]) -> Message:
    """A message from JSON or from a form. Raises Refused when it is not one."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind == "application/x-www-form-urlencoded":
            # Starlette would put other characters in the place of what is not UTF-8.
            text = (await request.body()).decode()
            values: Any = dict(parse_qsl(text, keep_blank_values=True, errors="strict"))
        elif kind == "multipart/form-data":
            values = dict(await request.form())
        else:
            values = await request.json()
        return message.model_validate(values)
    except ValidationError as error:
        raise Refused(400, explained(error.errors())) from None
    except UnicodeDecodeError:
        raise Refused(400, "Invalid request: not UTF-8") from None
    except (ValueError, RecursionError, HTTPException):
        raise Refused(400, "Invalid request: neither JSON nor a form") from None


def explained(errors: Any) -> str:
    """What is wrong with a message, without what was in it."""
    first, name = errors[0], _field_of(errors[0])
    # A text or a list may be expected: what is wrong is told once for each.
    kinds = {error["type"] for error in errors if _field_of(error) == name}
    if "missing" in kinds:
        return f"Invalid request: missing {name or 'body'} parameter"
    if kinds & {"string_too_short", "too_short"}:
        return f"Invalid request: {name} is empty"
    if not name:
        return "Invalid request: not a JSON object"
    return f"Invalid request: {name}: {first['msg'][:1].lower()}{first['msg'][1:]}"


def _field_of(error: Any) -> str:
    """Empty, if it is of the whole message."""
    names = (part for part in error["loc"] if isinstance(part, str) and part != "body")
    return next(names, "")


def accepts(message: type[BaseModel]) -> dict[str, Any]:
    """The part of an OpenAPI operation that describes a body which `read` reads."""
    schema = message.model_json_schema(ref_template=REF_TEMPLATE)
    kinds = "application/json", "application/x-www-form-urlencoded"
    return {
        "requestBody": {
            "required": True,
            "content": {kind: {"schema": schema} for kind in kinds},
        }
    }

"""What every request passes before the app sees it, as ASGI middleware."""

import asyncio
import time
from collections.abc import Callable, Iterable
from functools import partial

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from calque.serving.limits import Limits, Refused
from calque.serving.metrics import Metrics


class Gate:
    """Takes a body in whole and of bounded size, gives the app bounded time, and counts.

    So a slow client waits by itself: nothing of its request is in a queue before all of it is here.
    One that has gone takes its request along.
    """

    def __init__(
        self, app: ASGIApp, limits: Limits, metrics: Metrics, paths: Iterable[str]
    ) -> None:
        self.app, self._limits, self._metrics = app, limits, metrics
        self._paths = frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self._paths else "other"
        answer = _Answer(send, partial(self._count, path, time.perf_counter()))
        try:
            async with asyncio.timeout(self._limits.seconds):
                answer.late = 408, "The request did not arrive in time"
                body = await self._body(scope, receive)
                answer.late = 503, "The request took too long"
                await _while_connected(self.app, scope, body, receive, answer)
        except TimeoutError:
            await answer.refuse(scope, Refused(*answer.late, retry_after=self._limits.seconds))
        except Refused as refused:
            await answer.refuse(scope, refused)
        except Exception:
            answer.count("500")
            raise
        if not answer.started:
            answer.count("gone")

    def _count(self, path: str, start: float, status: str) -> None:
        self._metrics.requests.labels(path, status).inc()
        self._metrics.seconds.labels(path).observe(time.perf_counter() - start)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        limit = self._limits.body
        too_large = Refused(413, f"The body is over {limit} bytes")
        announced = dict(scope["headers"]).get(b"content-length", b"")
        if announced.isdigit() and int(announced) > limit:
            raise too_large
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Refused(400, "The client went away")
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > limit:
                raise too_large
        return bytes(body)


class _Answer:
    """What has become of a request."""

    def __init__(self, send: Send, count: Callable[[str], None]) -> None:
        self._send, self.count = send, count
        self.started = False
        self.late: tuple[int, str] = 503, ""
        """What to answer when time is over."""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self.count(str(message["status"]))
        await self._send(message)

    async def refuse(self, scope: Scope, refused: Refused) -> None:
        """Say so, unless an answer has begun, and hang up: more of the request may be coming."""
        if not self.started:
            response = refusal(refused)
            response.headers["Connection"] = "close"
            await response(scope, _nothing_more, self)


def refusal(refused: Refused) -> JSONResponse:
    """The answer to a refused request."""
    return JSONResponse({"error": str(refused)}, refused.status, refused.headers)


async def _while_connected(
    app: ASGIApp, scope: Scope, body: bytes, receive: Receive, send: Send
) -> None:
    """Run the app on a body until it has answered or the client goes away."""
    whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return whole.pop() if whole else await _nothing_more()

    answering = asyncio.ensure_future(app(scope, replay, send))
    leaving = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if answering.done():
            answering.result()
    finally:
        leaving.cancel()
        answering.cancel()
        await asyncio.wait({answering, leaving})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _nothing_more() -> Message:
    await asyncio.Event().wait()  # for ever
    raise AssertionError

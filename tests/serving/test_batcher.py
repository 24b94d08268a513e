"""Batches of sentences that came one by one, before a real model."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from calque.serving.batcher import Batcher, Found
from calque.serving.limits import Limits, Refused
from calque.serving.loaded import Linked, Loaded, load
from calque.serving.metrics import Metrics
from calque.translator import BATCH_TOKENS, Translation, Translator


class Recorded(Translator):
    """A translator that notes its batches; before each it waits until it may, and some seconds."""

    def __init__(self, translator: Translator) -> None:
        vars(self).update(vars(translator))
        self.batches: list[list[str]] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.seconds = 0.0

    def n_best(self, lines: Sequence[str]) -> list[list[Translation]]:
        assert self.may_go_on.wait(30)
        time.sleep(self.seconds)
        self.batches.append(list(lines))
        if "poison" in lines:
            raise RuntimeError("out of memory")
        return super().n_best(lines)


@pytest.fixture(scope="session")
def loaded(run: Path) -> Loaded:
    return load(run, "cpu")


@pytest.fixture
def recorded(loaded: Loaded) -> Recorded:
    return Recorded(loaded.translator)


@pytest.fixture
def small_batches(sentences: list[str], loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many sentences of the longest are a batch; all together are several."""
    longest = max(map(len, loaded.translator.tokenizers.source.encode(sentences))) + 1
    monkeypatch.setattr("calque.serving.batcher.BATCH_TOKENS", 30 * longest)
    return 30


@asynccontextmanager
async def batching(loaded: Loaded, recorded: Recorded, **limits: float) -> AsyncIterator[Batcher]:
    changed = replace(loaded, translator=recorded)
    with ThreadPoolExecutor(1) as thread:
        yield Batcher(changed, thread, Limits(**limits), Metrics())  # type: ignore[arg-type]


def test_sentences_of_many_are_translated_together_and_as_alone(
    loaded: Loaded, recorded: Recorded, sentences: list[str], translator: Translator
):
    sentences = sentences[:16]

    async def ask() -> list[str]:
        async with batching(loaded, recorded) as batcher:
            found = await asyncio.gather(*(batcher.translate([s]) for s in sentences))
            return [one.n_best[0].text for (one,) in found]

    texts = asyncio.run(ask())
    assert texts == translator.translate(sentences)
    assert texts == [translator.translate([sentence])[0] for sentence in sentences]
    assert len(set(texts)) > 5
    assert [sorted(batch) for batch in recorded.batches] == [sorted(sentences)]


def test_words_are_found_for_whom_they_are_wanted(
    loaded: Loaded, recorded: Recorded, sentences: list[str], translator: Translator
):
    async def ask() -> list[Found]:
        async with batching(loaded, recorded) as batcher:
            return await batcher.translate(sentences[:4], [True, False, True, False])

    found = asyncio.run(ask())
    assert [bool(one.linked) for one in found] == [True, False, True, False]
    for sentence, one in zip(sentences, found, strict=False):
        if one.linked:
            assert ["".join(one.linked.source), "".join(one.linked.target)] == [
                sentence, *translator.translate([sentence])
            ]  # fmt: skip


def test_a_batch_keeps_the_budget_of_tokens(
    loaded: Loaded, recorded: Recorded, sentences: list[str]
):
    many = sentences * 3

    async def ask() -> None:
        async with batching(loaded, recorded) as batcher:
            await batcher.translate(many)

    asyncio.run(ask())
    encode = loaded.translator.tokenizers.source.encode
    sizes = [len(batch) * (max(map(len, encode(batch))) + 1) for batch in recorded.batches]
    assert max(sizes) <= BATCH_TOKENS < sum(sizes)
    assert [line for batch in recorded.batches for line in batch] == many


def test_while_a_batch_is_translated_the_next_one_gathers(
    loaded: Loaded, recorded: Recorded, sentences: list[str]
):
    async def ask() -> None:
        async with batching(loaded, recorded) as batcher:
            recorded.may_go_on.clear()
            asked = [asyncio.create_task(batcher.translate(sentences[:1]))]
            await asyncio.sleep(0.1)
            for sentence in sentences[1:9]:
                asked.append(asyncio.create_task(batcher.translate([sentence])))
                await asyncio.sleep(0.01)
            recorded.may_go_on.set()
            await asyncio.gather(*asked)

    asyncio.run(ask())
    assert recorded.batches == [sentences[:1], sentences[1:9]]


def test_who_stops_waiting_takes_the_sentences_along(
    loaded: Loaded, recorded: Recorded, sentences: list[str]
):
    async def ask() -> None:
        async with batching(loaded, recorded) as batcher:
            recorded.may_go_on.clear()
            asked = []
            for group in (sentences[:1], sentences[1:4], sentences[4:6]):
                asked.append(asyncio.create_task(batcher.translate(group)))
                await asyncio.sleep(0.05)
            asked[0].cancel()
            asked[1].cancel()
            await asyncio.sleep(0)
            recorded.may_go_on.set()
            assert len(await asked[2]) == 2

    asyncio.run(ask())
    assert recorded.batches == [sentences[:1], sentences[4:6]]


def test_the_queue_changes_only_between_two_steps_of_the_event_loop(
    loaded: Loaded, recorded: Recorded, sentences: list[str], monkeypatch: pytest.MonkeyPatch
):
    changes = set()

    class Watched(deque):  # type: ignore[type-arg]
        def popleft(self) -> object:
            changes.add(threading.current_thread())
            return super().popleft()

    async def ask() -> None:
        async with batching(loaded, recorded) as batcher:
            await batcher.translate(sentences)

    monkeypatch.setattr("calque.serving.batcher.deque", Watched)
    asyncio.run(ask())
    assert changes == {threading.current_thread()}


def test_a_full_queue_is_said_at_once(loaded: Loaded, recorded: Recorded, sentences: list[str]):
    async def ask() -> None:
        async with batching(loaded, recorded, waiting=3) as batcher:
            await batcher.translate(sentences[:1])
            recorded.may_go_on.clear()
            first = asyncio.create_task(batcher.translate(sentences[:1]))
            await asyncio.sleep(0.1)
            second = asyncio.create_task(batcher.translate(sentences[:3]))
            await asyncio.sleep(0)
            start = time.perf_counter()
            with pytest.raises(Refused) as refused:
                await batcher.translate(sentences[:1])
            assert time.perf_counter() - start < 0.1
            assert refused.value.status == 503
            assert int(refused.value.headers["Retry-After"]) >= 1
            recorded.may_go_on.set()
            assert [len(found) for found in await asyncio.gather(first, second)] == [1, 3]
            await batcher.translate(sentences[:1])

    asyncio.run(ask())


@pytest.mark.usefixtures("small_batches")
def test_who_would_wait_in_vain_is_told_at_once(
    loaded: Loaded, recorded: Recorded, sentences: list[str]
):
    async def ask() -> None:
        async with batching(loaded, recorded, seconds=1) as batcher:
            recorded.seconds = 0.2
            await batcher.translate(sentences)  # so it is known how long a batch takes
            first = asyncio.create_task(batcher.translate(sentences * 2))
            await asyncio.sleep(0.1)
            with pytest.raises(Refused) as refused:
                await batcher.translate(sentences[:1])
            assert refused.value.status == 503
            await first
            await batcher.translate(sentences[:1])

    asyncio.run(ask())


@pytest.mark.parametrize("slow", ["translations", "words"])
def test_what_is_being_computed_is_waited_for_too(
    loaded: Loaded, recorded: Recorded, sentences: list[str], small_batches: int, slow: str,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    link, seconds = Loaded.link, 1.0

    def slow_link(self: Loaded, lines: Sequence[str], best: Sequence[Translation]) -> list[Linked]:
        time.sleep(seconds)
        return link(self, lines, best)

    async def ask() -> None:
        nonlocal seconds
        async with batching(loaded, recorded, seconds=0.4) as batcher:
            if slow == "words":
                monkeypatch.setattr(Loaded, "link", slow_link)
            else:
                recorded.seconds = seconds
            wanted = [slow == "words"] * len(sentences)
            await batcher.translate(sentences, wanted)
            first = asyncio.create_task(
                batcher.translate(sentences[:small_batches], wanted[:small_batches])
            )
            await asyncio.sleep(0.1)
            with pytest.raises(Refused):
                await batcher.translate(sentences[:1])
            recorded.seconds = seconds = 0.0
            await first
            await batcher.translate(sentences[:1])

    asyncio.run(ask())


def test_small_batches_do_not_tell_how_long_a_queue_takes(
    loaded: Loaded, recorded: Recorded, sentences: list[str], small_batches: int
):
    async def ask() -> None:
        async with batching(loaded, recorded, seconds=10) as batcher:
            recorded.seconds = 0.15
            for _ in range(2):
                for sentence in sentences[:10]:
                    await batcher.translate([sentence])
                first = asyncio.create_task(batcher.translate(sentences))
                await asyncio.sleep(0.05)
                await batcher.translate(sentences[:1])
                await first

    asyncio.run(ask())
    assert max(map(len, recorded.batches)) > small_batches / 2


def test_a_sentence_that_cannot_be_translated_spares_the_others(
    loaded: Loaded, recorded: Recorded, sentences: list[str], translator: Translator
):
    async def ask() -> list[object]:
        async with batching(loaded, recorded) as batcher:
            lines = [sentences[0], "poison", sentences[1]]
            asked = (batcher.translate([line]) for line in lines)
            return await asyncio.gather(*asked, return_exceptions=True)

    first, poison, last = asyncio.run(ask())
    assert isinstance(poison, RuntimeError)
    texts = [one[0].n_best[0].text for one in (first, last)]  # type: ignore[index]
    assert texts == translator.translate(sentences[:2])


def test_a_new_model_takes_over_between_two_batches(
    loaded: Loaded, recorded: Recorded, sentences: list[str], make_run: Callable[..., Path],
    tmp_path: Path,
):  # fmt: skip
    other = load(make_run(tmp_path / "other", "en", "de", seed=7), "cpu")

    async def ask() -> list[list[Translation]]:
        async with batching(loaded, recorded) as batcher:
            recorded.may_go_on.clear()
            asked = [asyncio.create_task(batcher.translate(sentences[:1]))]
            await asyncio.sleep(0.05)
            asked.append(asyncio.create_task(batcher.translate(sentences[:1])))
            await asyncio.sleep(0.05)
            batcher.loaded = other
            recorded.may_go_on.set()
            return [found[0].n_best for found in await asyncio.gather(*asked)]

    expected = [model.translator.n_best(sentences[:1])[0] for model in (loaded, other)]
    assert asyncio.run(ask()) == expected
    assert expected[0] != expected[1]

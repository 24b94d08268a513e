"""What `calque serve` takes: one client, many clients, and twice as much as it can do.

    python benchmarks/serve_load.py runs/en-de --minutes 10

Starts the server by itself, on a free port, and ends it. First one client asks for sentence after
sentence, then 64 do, each as soon as it is answered; then requests come at random times (a Poisson
process) at twice the rate that the 64 clients reached, whatever becomes of them. The client is in
another process than the server, on the same machine.
"""

import argparse
import asyncio
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from urllib.request import urlopen

import aiohttp
import numpy as np
import report

from calque.checkpoint import RunFolder
from calque.interchange.equivalence import validation_pairs

CLIENTS = 64
OVERLOAD = 2.0
"""Times the rate of CLIENTS clients."""
PROCESS = re.compile(r"^process_(resident_memory_bytes|cpu_seconds_total) (\S+)$", re.M)


@dataclass
class Answers:
    """What came back while the clock ran."""

    statuses: Counter[str] = field(default_factory=Counter)
    """By HTTP status; errors of the connection by their name."""
    seconds: list[float] = field(default_factory=list)
    """Of the requests that were answered with a translation."""
    took: float = 0.0
    memory: list[float] = field(default_factory=list)
    """Resident bytes of the server, once a second."""
    processor: list[float] = field(default_factory=list)
    """Seconds of processor time that the server has had, once a second."""

    def row(self, phase: str) -> dict[str, str | float]:
        """The line of the table."""
        done = np.array(self.seconds or [np.nan])
        told = {status: number for status, number in self.statuses.items() if status != "200"}
        used = self.processor[-1] - self.processor[0]
        memory = [f"{size / 1e6:,.0f}" for size in quarters(self.memory)]
        return {
            "phase": phase,
            "seconds": self.took,
            "requests/s": sum(self.statuses.values()) / self.took,
            "translated/s": len(self.seconds) / self.took,
            "p50, ms": 1000 * float(np.quantile(done, 0.5)),
            "p99, ms": 1000 * float(np.quantile(done, 0.99)),
            "processor, ms each": 1000 * used / max(1, len(self.seconds)),
            "other answers": ", ".join(f"{n:,} x {status}" for status, n in told.items()) or "none",
            "memory by quarters, MB": " ".join(memory),
        }


def quarters(memory: list[float]) -> list[float]:
    """Medians of the four quarters of a run: the first to the last."""
    parts = np.array_split(np.array(memory), 4)
    return [float(np.median(part)) for part in parts if len(part)]


class Load:
    """A server under load, and the sentences to ask for."""

    def __init__(self, client: aiohttp.ClientSession, asked: list[dict[str, str]]) -> None:
        self.client, self.asked = client, cycle(asked)

    async def ask(self, answers: Answers) -> None:
        start = time.perf_counter()
        try:
            async with self.client.post("/translate", json=next(self.asked)) as response:
                await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            answers.statuses[type(error).__name__] += 1
            return
        answers.statuses[str(response.status)] += 1
        if response.status == 200:
            answers.seconds.append(time.perf_counter() - start)

    async def closed(self, clients: int, seconds: float) -> Answers:
        """So many clients, each asking again when it is answered."""

        async def keep_asking() -> None:
            while time.perf_counter() < end:
                await self.ask(answers)

        async with self.measured() as answers:
            end = time.perf_counter() + seconds
            await asyncio.gather(*(keep_asking() for _ in range(clients)))
        return answers

    async def open(self, rate: float, seconds: float) -> Answers:
        """Requests at random times, `rate` a second on the average."""
        async with self.measured() as answers, asyncio.TaskGroup() as group:
            now = time.perf_counter()
            end = now + seconds
            while now < end:
                group.create_task(self.ask(answers))
                now += random.expovariate(rate)
                await asyncio.sleep(max(0.0, now - time.perf_counter()))
        return answers

    @asynccontextmanager
    async def measured(self) -> AsyncIterator[Answers]:
        answers, start = Answers(), time.perf_counter()
        watching = asyncio.create_task(self.watch(answers))
        yield answers
        watching.cancel()
        answers.took = time.perf_counter() - start

    async def watch(self, answers: Answers) -> None:
        while True:
            async with self.client.get("/metrics") as response:
                found = dict(PROCESS.findall(await response.text()))
            answers.memory.append(float(found["resident_memory_bytes"]))
            answers.processor.append(float(found["cpu_seconds_total"]))
            await asyncio.sleep(1)


@contextmanager
def server(run: Path) -> Iterator[tuple[str, float]]:
    """The address of a new server, and the seconds until it answered."""
    command = [sys.executable, "-m", "calque", "serve", str(run), "--port", "0"]
    start = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        if "http://" not in line:
            sys.exit(line + process.stderr.read())
        address = line.split()[-1]
        urlopen(f"{address}/ready").close()
        yield address, time.perf_counter() - start
    finally:
        process.terminate()
        process.wait()


async def load(
    address: str, asked: list[dict[str, str]], seconds: float, overload: float
) -> list[dict[str, str | float]]:
    """The rows of the table: one client, CLIENTS, and OVERLOAD times their rate."""
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(address, connector=connector, timeout=timeout) as client:
        loading = Load(client, asked)
        await loading.closed(CLIENTS, seconds / 10)  # so that all is warm
        one = await loading.closed(1, seconds)
        many = await loading.closed(CLIENTS, seconds)
        rate = OVERLOAD * len(many.seconds) / many.took
        flood = await loading.open(rate, overload)
    return [
        one.row("1 client"),
        many.row(f"{CLIENTS} clients"),
        flood.row(f"{OVERLOAD:g} x that rate"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("--minutes", type=float, default=10, help="of overload; default: 10")
    parser.add_argument("--seconds", type=float, default=30, help="of the others; default: 30")
    parser.add_argument("--sentences", type=Path, help="a file; default: the run's validation data")
    parser.add_argument("--out", type=Path, default=report.RESULTS)
    options = parser.parse_args()
    folder = RunFolder(options.run)
    data = folder.recipe.data
    if options.sentences:
        lines = options.sentences.read_text("utf-8").splitlines()
    else:
        lines = [source for source, _ in validation_pairs(folder, 1000)]
    if not lines:
        parser.error("no sentences; give --sentences FILE")
    pair = {"source": data.source_language or "", "target": data.target_language or ""}
    asked = [{"q": line, **pair} for line in lines]
    with server(options.run) as (address, start_up):
        rows = asyncio.run(load(address, asked, options.seconds, 60 * options.minutes))
    description = f"{options.run.name}, {len(lines):,} sentences; start-up {start_up:.1f} s"
    report.publish("serve_load", description, {"": rows}, options.out)


if __name__ == "__main__":
    main()

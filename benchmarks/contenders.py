"""Who trains: calque as in `calque train`, and MarianMTModel of transformers in its user's loop.

All begin with the same weights, see the same batches, and minimise the same loss by the same
optimizer at the same rates; dropout alone is drawn by each for itself.
"""

import logging
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.reduction import DupFd
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

import torch
from apart import OUR_ENVIRONMENT, Apart
from torch import Tensor
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]
from torch.nn.functional import cross_entropy, pad
from torch.nn.utils import clip_grad_norm_

from calque.benchmark.run import make_stepper
from calque.interchange.hugging_face import ARCHITECTURES, places, stream_order, to_theirs
from calque.models.build import ModelConfig, attention_for, build
from calque.models.transformer import Transformer
from calque.recipe import PRESETS, TrainingConfig
from calque.text.batching import Batch
from calque.training.distributed import Processes
from calque.training.memory import forget_old_kernels, keep_freed_memory
from calque.training.optimizer import BETAS, EPSILON, set_learning_rate
from calque.training.schedule import SCHEDULES

MULTIPLE = 16
IGNORED = -100  # what cross_entropy knows padding by


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is trained, and how."""

    model: ModelConfig
    vocab_size: int
    longest: int
    """Tokens of the longest side: MarianMTModel has a table of positions."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def new_model(self) -> Transformer:
        """With the same weights wherever it is called."""
        torch.manual_seed(1)
        attention = attention_for(self.device)
        return build(self.model, self.vocab_size, self.vocab_size, attention=attention)


def preset(name: str) -> ModelConfig:
    """A preset with Marian's biases, so that both models are the same, and a dropout of 0.1."""
    return ModelConfig(**{**PRESETS[name], "dropout": 0.1}, heads="biased")


@dataclass(frozen=True)
class Trained:
    """What one pass over batches came to."""

    seconds: float
    tokens: int
    """Predicted: EOS counts, padding does not."""
    losses: list[float]
    """Of each batch, in nats per token, with the smoothing in it."""
    parameters: int
    memory: float
    """Bytes: the most held so far, less what was held before there was a model."""

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds


class Calque:
    """The step of `calque train`, in one process or in one of several."""

    def __init__(
        self, setting: Setting, precision: str, processes: Processes | None = None
    ) -> None:
        forget_old_kernels()
        keep_freed_memory()
        self.device, self.held = setting.device, _held(setting.device)
        model = setting.new_model()
        config = replace(setting.training, precision=precision)
        self.stepper = make_stepper(model, config, processes or Processes(0, 1, self.device))
        self.step = 0

    def __call__(self, batches: list[Batch]) -> Trained:
        return _timed(self._step, batches, self.stepper.model, self.device, self.held)

    def _step(self, batch: Batch) -> float:
        self.step += 1
        result = self.stepper(batch, self.step, stop=False)
        return result.total / result.tokens


class HelpedCalque:
    """`calque train` on a CPU: a process for each thread that there is, see `training.helpers`."""

    def __init__(self, setting: Setting, precision: str) -> None:
        number = torch.get_num_threads()
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        memory = os.memfd_create("gradients") if number > 1 else None
        self.helpers = []
        for rank in range(1, number):
            ours, theirs = get_context("spawn").Pipe()
            place = rank, number, store.port, DupFd(memory)
            asked = theirs, setting, precision, *place
            # A daemon: it ends with us.
            get_context("spawn").Process(target=_help, args=asked, daemon=True).start()
            self.helpers.append(ours)
        self.mine = Share(setting, precision, Processes(0, number, setting.device, memory), store)

    def __call__(self, batches: list[Batch]) -> Trained:
        for helper in self.helpers:
            helper.send(batches)
        found = self.mine(batches)
        memory = found.memory + sum(helper.recv().memory for helper in self.helpers)
        return replace(found, memory=memory)


def _help(
    connection: Connection,
    setting: Setting,
    precision: str,
    rank: int,
    number: int,
    port: int,
    memory: Any,
) -> None:
    place = Processes(rank, number, setting.device, memory.detach())
    share = Share(setting, precision, place, TCPStore("127.0.0.1", port, is_master=False))
    while True:
        connection.send(share(connection.recv()))


class Share(Calque):
    """What one of several processes does: its share of each batch, with one thread."""

    def __init__(self, setting: Setting, precision: str, place: Processes, store: TCPStore) -> None:
        torch.set_num_threads(1)
        joined = place.joined(store)
        super().__init__(setting, precision, joined.__enter__())
        # Before the interpreter ends, which would wait for the group's threads for ever.
        Finalize(None, joined.__exit__, (None, None, None), exitpriority=1)


class CompiledCalque(Calque):
    """The same with its layers compiled once for all lengths, which are rounded up to MULTIPLE."""

    def __init__(self, setting: Setting, precision: str) -> None:
        super().__init__(setting, precision)
        model: Any = self.stepper.model
        # The loss picks the tokens that are no padding; their number is no shape to compile for.
        encode = torch.compile(model.encode, dynamic=True)
        features = torch.compile(model.features, dynamic=True)
        pad_id = model.config.pad_id

        def widened(ids: Tensor) -> Tensor:
            return pad(ids, (0, -ids.size(1) % MULTIPLE), value=pad_id)

        model.encode = lambda source: encode(widened(source))
        model.features = lambda target, memory, past: features(widened(target), memory, past)[
            :, : target.size(1)
        ]


class Marian:
    """MarianMTModel of the same weights, in float32 or under bf16 autocast."""

    def __init__(self, setting: Setting, autocast: bool) -> None:
        self.config, self.device = setting.training, setting.device
        self.d_model, self.autocast = setting.model.d_model, autocast
        transformers = _transformers()
        self.held = _held(self.device)
        self.model = _marian(transformers, setting).to(self.device).train()
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), betas=BETAS, eps=EPSILON, fused=True
        )
        self.step = 0
        torch.manual_seed(self.config.seed)

    def __call__(self, batches: list[Batch]) -> Trained:
        return _timed(self._step, batches, self.model, self.device, self.held)

    def _step(self, batch: Batch) -> float:
        self.step += 1
        source, target = batch.source.to(self.device), batch.target.to(self.device)
        labels = target[:, 1:].masked_fill(target[:, 1:] == batch.pad_id, IGNORED)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            logits = self.model(
                input_ids=source,
                attention_mask=(source != batch.pad_id).long(),
                decoder_input_ids=target[:, :-1],
                use_cache=False,
            ).logits
            loss = cross_entropy(
                logits.flatten(0, 1),
                labels.flatten(),
                ignore_index=IGNORED,
                label_smoothing=self.config.label_smoothing,
            )
        loss.backward()
        clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        rate = SCHEDULES[self.config.schedule](self.step, self.config, self.d_model)
        set_learning_rate(self.optimizer, rate)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()


def _transformers() -> Any:
    import transformers  # noqa: PLC0415 - seconds, and calque's processes have no use for it

    logging.getLogger("transformers").setLevel(logging.ERROR)
    return transformers


def _marian(transformers: Any, setting: Setting) -> Any:
    ours, sizes = setting.new_model(), setting.model
    config = transformers.MarianConfig(
        vocab_size=setting.vocab_size,
        encoder_layers=sizes.num_encoder_layers,
        decoder_layers=sizes.num_decoder_layers,
        d_model=sizes.d_model,
        encoder_ffn_dim=sizes.d_ff,
        decoder_ffn_dim=sizes.d_ff,
        encoder_attention_heads=sizes.num_heads,
        decoder_attention_heads=sizes.num_heads,
        dropout=sizes.dropout,
        activation_function="relu",
        scale_embedding=True,
        max_position_embeddings=setting.longest + 1,
        pad_token_id=ours.config.pad_id,
        eos_token_id=ours.config.eos_id,
        decoder_start_token_id=ours.config.bos_id,
    )
    model = transformers.MarianMTModel(config)
    marian = ARCHITECTURES["marian"]
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    where, order = places(sizes, marian, "joint"), stream_order(sizes, marian)
    theirs = to_theirs(ours.state_dict(), where, order, shapes)
    model.load_state_dict(theirs, strict=False)  # their table of positions stays
    return model


CONTENDERS: dict[str, tuple[Callable[..., Any], str | bool]] = {
    "calque": (HelpedCalque, "auto"),
    "calque, one process": (Calque, "auto"),
    "calque, float32": (HelpedCalque, "float32"),
    "MarianMTModel, float32": (Marian, False),
    "MarianMTModel, bf16 autocast": (Marian, True),
    "calque, compiled": (CompiledCalque, "bf16"),
}


def contenders(setting: Setting, names: list[str]) -> dict[str, Apart[list[Batch], Trained]]:
    """The contenders of these names, each in a process of its own."""
    found: dict[str, Apart[list[Batch], Trained]] = {}
    for name in names:
        make, how = CONTENDERS[name]
        environment = {} if make is Marian else OUR_ENVIRONMENT
        found[name] = Apart(make, setting, how, environment=environment)
    return found


def _timed(
    step: Callable[[Batch], float],
    batches: list[Batch],
    model: Any,
    device: torch.device,
    held: float,
) -> Trained:
    start = time.perf_counter()
    losses = [step(batch) for batch in batches]  # each is read, so a GPU has done with it
    if device.type == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    size = sum(p.numel() for p in model.parameters() if p.requires_grad)
    memory = max(0.0, _held(device) - held)  # Linux counts to within some pages
    return Trained(seconds, sum(b.num_tokens for b in batches), losses, size, memory)


def _held(device: torch.device) -> float:
    """The most bytes that this process, or on a GPU PyTorch, has held so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if status.exists():  # getrusage there counts what the process was forked from
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return 1024 * float(line.split()[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)

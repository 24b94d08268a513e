"""One step of training: accumulation, clipping, memory, and losses that are not finite."""

import copy

import numpy as np
import pytest
import torch

from calque.models.build import ModelConfig, build
from calque.models.transformer import Transformer
from calque.recipe import TrainingConfig
from calque.text.batching import Batch
from calque.text.tokenizers.interface import SpecialIds
from calque.training.distributed import GradientSum, Processes
from calque.training.step import BatchTooLargeError, LossNotFiniteError, Stepper

ALONE = Processes(0, 1, torch.device("cpu"))
OURS, MARIANS = SpecialIds(), SpecialIds(pad=20, unk=1, bos=20, eos=0)
CPU_MESSAGE = "[enforce fail at alloc_cpu.cpp:116] . DefaultCPUAllocator: can't allocate memory"


def stepper(
    dropout: float = 0.0, processes: Processes = ALONE, special: SpecialIds = OURS, **changes
) -> Stepper:
    config = {"schedule": "inverse_sqrt", "learning_rate": 0.01, "warmup_steps": 1} | changes
    sizes = {"num_encoder_layers": 1, "num_decoder_layers": 1, "d_model": 16, "d_ff": 32}
    torch.manual_seed(5)
    ids = {"pad_id": special.pad, "bos_id": special.bos, "eos_id": special.eos}
    model = build(ModelConfig(num_heads=2, dropout=dropout, **sizes), 21, 21, **ids)
    return Stepper(model, TrainingConfig(**config), processes, autocast=False)


def batch(rows: int = 8, special: SpecialIds = OURS) -> Batch:
    generator = torch.Generator().manual_seed(3)
    source = torch.full((rows, 7), special.pad)
    target = torch.full((rows, 8), special.pad)
    for row in range(rows):
        length = 2 + row % 5
        ids = torch.randint(4, 20, (2, length), generator=generator)
        source[row, : length + 1] = torch.tensor([*ids[0], special.eos])
        target[row, : length + 2] = torch.tensor([special.bos, *ids[1], special.eos])
    return Batch(source, target, np.arange(100, 100 + rows), special.pad)


def gradients(
    stepper: Stepper, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> list[torch.Tensor]:
    """What the step would move the weights by, before Adam hides its size."""
    found = []
    monkeypatch.setattr(
        stepper.optimizer,
        "step",
        lambda: found.extend(p.grad.clone() for p in stepper.model.parameters()),
    )
    stepper(batch, 1, False)
    return found


def assert_same(one: list[torch.Tensor], two: list[torch.Tensor]) -> None:
    assert len(one) == len(two) > 0
    for first, second in zip(one, two, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)


def small_memory(monkeypatch, rows, error):
    """Sources of more than so many rows do not fit."""
    encode = Transformer.encode

    def limited(self, source, tree):
        if len(source) > rows:
            raise error
        return encode(self, source, tree)

    monkeypatch.setattr(Transformer, "encode", limited)


def test_learns_what_it_is_shown():
    learner = stepper(learning_rate=0.02)
    losses = [learner(batch(), step, False).cross_entropy for step in range(1, 60)]
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("accumulation", [2, 3, 8, 20])
@pytest.mark.parametrize("special", [OURS, MARIANS], ids=["ours", "Marian's"])
def test_accumulation_is_one_large_batch(special, accumulation, monkeypatch):
    alone, pairs = {"clip_norm": None, "special": special}, batch(special=special)
    whole = gradients(stepper(**alone), pairs, monkeypatch)
    parts = gradients(stepper(**alone, accumulation=accumulation), pairs, monkeypatch)
    assert_same(parts, whole)


@pytest.mark.parametrize("world_size", [2, 8, 11])
def test_the_sum_over_processes_is_one_large_batch(world_size, monkeypatch):
    monkeypatch.setattr(Processes, "wrap", lambda _, module: module)
    monkeypatch.setattr(GradientSum, "_over_a_network", lambda _: None)
    monkeypatch.setattr(Processes, "total", lambda _, values: values)
    whole = gradients(stepper(clip_norm=None), batch(), monkeypatch)
    ranks = [Processes(rank, world_size, torch.device("cpu")) for rank in range(world_size)]
    shares = [
        gradients(stepper(processes=one, clip_norm=None), batch(), monkeypatch) for one in ranks
    ]
    assert_same([torch.stack(grads).sum(dim=0) for grads in zip(*shares, strict=True)], whole)


def test_gradients_are_the_mean_over_tokens(monkeypatch):
    once = gradients(stepper(clip_norm=None), batch(), monkeypatch)
    pairs = batch()
    sides = pairs.source.repeat(2, 1), pairs.target.repeat(2, 1)
    doubled = Batch(*sides, pairs.rows.repeat(2), pairs.pad_id)
    assert_same(gradients(stepper(clip_norm=None), doubled, monkeypatch), once)


def test_clipping_shortens_what_is_longer(monkeypatch):
    free = gradients(stepper(clip_norm=None), batch(), monkeypatch)
    norm = float(torch.cat([grad.flatten() for grad in free]).norm())
    clipped = gradients(stepper(clip_norm=norm / 4), batch(), monkeypatch)
    assert_same(clipped, [grad / 4 for grad in free])
    assert_same(gradients(stepper(clip_norm=norm * 4), batch(), monkeypatch), free)
    assert stepper(clip_norm=norm / 4)(batch(), 1, False).gradient_norm == pytest.approx(norm)


def test_dropout_is_a_function_of_seed_and_step():
    def loss(seed, step):
        torch.manual_seed(torch.seed())
        return stepper(dropout=0.3, seed=seed)(batch(), step, False).total

    assert loss(1, 4) == loss(1, 4)
    assert len({loss(1, 4), loss(1, 5), loss(2, 4)}) == 3


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA"), RuntimeError(CPU_MESSAGE)])
@pytest.mark.parametrize("rows", [4, 3, 1])
def test_what_does_not_fit_is_learnt_in_pieces(rows, error, monkeypatch):
    whole, whole_result = stepper(), stepper()(batch(), 1, False)
    whole(batch(), 1, False)
    pieces = stepper()
    with monkeypatch.context() as patched:
        small_memory(patched, rows, error)
        result = pieces(batch(), 1, False)
    assert result.total == pytest.approx(whole_result.total)
    assert whole_result.too_large is None
    assert result.too_large is not None
    assert len(result.too_large) > rows
    assert_same(list(pieces.model.parameters()), list(whole.model.parameters()))


def test_one_pair_that_does_not_fit_is_named(monkeypatch):
    encode = Transformer.encode

    def limited(self, source, tree):
        if source.size(1) > 6:  # the rows with the longest sources: 104 alone
            raise torch.OutOfMemoryError("CUDA")
        return encode(self, source, tree)

    monkeypatch.setattr(Transformer, "encode", limited)
    learner = stepper()
    before = copy.deepcopy(learner.model.state_dict())
    with pytest.raises(BatchTooLargeError) as raised:
        learner(batch(), 1, False)
    assert raised.value.rows.tolist() == [104]
    unchanged(learner, before)


def test_other_errors_are_not_taken_for_a_lack_of_memory(monkeypatch):
    small_memory(monkeypatch, 4, RuntimeError("a mistake of ours"))
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        stepper()(batch(), 1, False)


def test_a_loss_that_is_not_finite_moves_nothing():
    learner = stepper()
    with torch.no_grad():
        next(learner.model.parameters())[3, 2] = torch.nan
    before = copy.deepcopy(learner.model.state_dict())
    with pytest.raises(LossNotFiniteError):
        learner(batch(), 1, False)
    unchanged(learner, before)


def unchanged(learner, before):
    for name, tensor in learner.model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0, equal_nan=True)
    assert all(parameter.grad is None for parameter in learner.model.parameters())


@pytest.mark.parametrize("special", [OURS, MARIANS], ids=["ours", "Marian's"])
def test_tokens_count_the_end_and_no_padding(special):
    pairs = batch(special=special)
    result = stepper(special=special)(pairs, 1, False)
    assert result.tokens == sum(2 + row % 5 + 1 for row in range(8))
    padding = torch.full((8, 3), special.pad)
    wider = Batch(
        torch.cat([pairs.source, padding], 1),
        torch.cat([pairs.target, padding], 1),
        pairs.rows,
        special.pad,
    )
    same = stepper(special=special)(wider, 1, False)
    assert (same.tokens, same.total) == (result.tokens, pytest.approx(result.total))


def test_a_wish_to_stop_comes_back():
    assert stepper()(batch(), 1, True).stop
    assert not stepper()(batch(), 1, False).stop

"""CTranslate2 runs our exports: the same probabilities and targets; what differs is refused."""

import json
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import ctranslate2
import numpy as np
import pytest
import sentencepiece
import torch
from ctranslate2.specs.model_spec import OPTIONAL
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from calque.checkpoint import RunFolder
from calque.config import CalqueError
from calque.decoding import SEARCHES
from calque.decoding.config import DecodingConfig
from calque.decoding.hypothesis import Hypothesis
from calque.evaluation.metrics import bleu
from calque.interchange import ctranslate2 as exporting
from calque.interchange.ctranslate2 import (
    QUANTIZATIONS,
    CTranslate2Engine,
    export_ctranslate2,
)
from calque.interchange.ctranslate2_spec import EXPRESSED, make_spec, names
from calque.interchange.equivalence import TOLERANCE
from calque.models.build import SLOTS, build
from calque.models.transformer import Transformer
from calque.recipe import make_recipe
from calque.text.tokenizers import TOKENIZERS
from calque.text.tokenizers.interface import BOS, PAD, SPECIALS, TokenizerConfig
from calque.text.tokenizers.pair import Tokenizers
from calque.translator import Translator

WORDS = [first + second for first in "klmnprst" for second in "aeiou"]
SIZES = {
    "num_encoder_layers": 2,
    "num_decoder_layers": 2,
    "d_model": 24,
    "d_ff": 32,
    "num_heads": 3,
}
FLAT = {"num_encoder_layers": 1, "num_decoder_layers": 1}  # quicker to train
RANDOM = Random(1)
LINES = [" ".join(RANDOM.choices(WORDS, k=RANDOM.randint(1, 30))) for _ in range(36)]
ODD = [
    "a ▁ b▁",
    "<s> </s> <pad> <unk> ##a",
    "▁#9 a\tb \u00a0 \r c \x85 \u2028 \\n \" ' { 😀",
    "<s> ka#5 ka ▁▁ ##▁ ⁇",
]
LONGEST = 36


def _choices(*slots: str) -> list[dict[str, str]]:
    """All combinations of what `slots` may be; the other parts take turns."""
    others = {s: EXPRESSED[s] for s in SLOTS if s not in slots and len(EXPRESSED[s]) > 1}
    others["vocabulary"] = ("joint", "separate")
    return [
        dict(zip(slots, chosen, strict=True))
        | {
            slot: parts[number // turn % len(parts)]
            for turn, (slot, parts) in enumerate(others.items(), start=1)
        }
        for number, chosen in enumerate(product(*(EXPRESSED[slot] for slot in slots)))
    ]


def _id(parts: dict[str, str]) -> str:
    return "-".join(parts.values())


def _make_run(
    folder: Path,
    tokenizers: Tokenizers | None = None,
    *,
    prepare: Callable[[Transformer], None] = lambda _: None,
    tokenizer: dict[str, Any] | None = None,
    vocabulary: str = "joint",
    decoding: dict[str, Any] | None = None,
    **parts: Any,
) -> RunFolder:
    """The run folder of a model of the given parts; the files of its data are in `folder`."""
    valid = [str(folder / "valid.a"), str(folder / "valid.b")]
    words = {"kind": "words", "vocab_size": len(WORDS) + 4, "vocabulary": vocabulary}
    sections = {
        "data": {"train": valid, "valid": valid},
        "tokenizer": {**words, **(tokenizer or {})},
        "model": {**SIZES, "dropout": 0.0, **parts},
        "decoding": {"max_length": LONGEST, "precision": "float32", **(decoding or {})},
    }
    recipe = make_recipe(sections, "test")
    tokenizers = tokenizers or Tokenizers.train(
        recipe.tokenizer, lambda: ((line, line) for line in (" ".join(WORDS), *LINES))
    )
    special = {f"{name}_id": getattr(tokenizers.special, name) for name in ("pad", "bos", "eos")}
    torch.manual_seed(5)
    sizes = tokenizers.source.vocab_size, tokenizers.target.vocab_size
    model = build(recipe.model, *sizes, vocabulary=vocabulary, **special)
    prepare(model)
    return RunFolder.create(folder / "run", recipe, tokenizers, {}, model.state_dict())


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., RunFolder]:
    return partial(_make_run, tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that decodes greedily, and whose validation targets are its own translations."""
    folder = tmp_path_factory.mktemp("trained")
    run = _make_run(folder, prepare=_train, decoding={"search": "greedy"}, **FLAT)
    (folder / "valid.a").write_text("\n".join(LINES), encoding="utf-8")
    targets = Translator.load(run.path).translate(LINES)
    (folder / "valid.b").write_text("\n".join(targets), encoding="utf-8")
    return run


def _liven(model: Transformer) -> None:
    """Biases that are not zero, and weights with which targets vary."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.add_(0.1 * torch.randn_like(weight))
            if "embedding" in name:
                weight.mul_(0.25)
            elif "query" in name or "key" in name:
                weight.mul_(2)


def _train(model: Transformer, steps: int = 120) -> None:
    """Teach it to begin with the source's first word and count on, to a word that ends the text."""
    config, random = model.config, Random(2)
    last = config.target_vocab_size - 1
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        sources = [random.choices(range(4, last + 1), k=random.randint(1, 12)) for _ in range(24)]
        targets = []
        for source in sources:
            count = [source[0]]
            while count[-1] % 11:
                count.append(count[-1] + 1 if count[-1] < last else 4)
            targets.append([config.bos_id, *count, config.eos_id])
        source, target = (
            pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
            for rows in ([[*row, config.eos_id] for row in sources], targets)
        )
        logits = model(source, target[:, :-1])
        loss = cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()


def _ours(run: RunFolder, search: str, config: DecodingConfig) -> list[list[Hypothesis]]:
    special = run.tokenizers.special
    ids = [torch.tensor([*row, special.eos]) for row in run.tokenizers.source.encode(LINES)]
    source = pad_sequence(ids, batch_first=True, padding_value=special.pad)
    return SEARCHES[search](run.load_model().eval(), source, config)


def _theirs(run: RunFolder, folder: Path, **options: Any) -> list[dict[tuple[int, ...], float]]:
    """Ids, with EOS, and score of each target that CTranslate2 finds; best first."""
    source, target = names(run.tokenizers.source), names(run.tokenizers.target)
    results = ctranslate2.Translator(str(folder)).translate_batch(
        [[source[i] for i in row] for row in run.tokenizers.source.encode(LINES)],
        return_scores=True,
        return_end_token=True,
        min_decoding_length=0,
        max_decoding_length=LONGEST,
        **options,
    )
    return [
        {tuple(map(target.index, h)): s for h, s in zip(r.hypotheses, r.scores, strict=True)}
        for r in results
    ]


@pytest.mark.parametrize("parts", _choices("positions", "feed_forward"), ids=_id)
def test_random_weights_give_the_same_probabilities_and_greedy_targets(parts, make_run, tmp_path):
    run = make_run(prepare=_liven, **parts)
    export = export_ctranslate2(run, tmp_path / "out")
    assert export.difference <= TOLERANCE
    assert export.bleu is None
    never = [[SPECIALS[PAD]], [SPECIALS[BOS]]]
    found = _theirs(run, export.folder, beam_size=1, suppress_sequences=never)
    theirs = [next(iter(of_line)) for of_line in found]
    ours = [best.tokens for (best,) in _ours(run, "greedy", DecodingConfig(max_length=LONGEST))]
    assert ours == [target[: len(own)] for own, target in zip(ours, theirs, strict=True)]
    assert max(map(len, ours)) > 30  # beyond any distance that Shaw's attention has a vector for
    assert len(set(ours)) > 5


@pytest.mark.parametrize("parts", _choices("positions"), ids=_id)
def test_beams_of_a_trained_model_and_their_scores_are_ours(parts, make_run, tmp_path):
    run = make_run(prepare=partial(_train, steps=80), **FLAT, **parts)
    folder = export_ctranslate2(run, tmp_path / "out").folder
    eos = run.tokenizers.special.eos
    # Without a penalty, nothing better can come once ours stops; theirs is to be as patient.
    config = DecodingConfig(beam_size=4, length_penalty=0.0, max_length=LONGEST)
    options = {"beam_size": 4, "length_penalty": 0.0, "patience": 20, "num_hypotheses": 80}
    theirs = _theirs(run, folder, **options)
    ours = _ours(run, "beam", config)
    assert [(*best.tokens, eos) for best, *_ in ours] == [next(iter(found)) for found in theirs]
    for hypotheses, found in zip(ours, theirs, strict=True):
        assert len(hypotheses) == 4
        scores = [found[*one.tokens, eos] for one in hypotheses]
        assert [one.score for one in hypotheses] == pytest.approx(scores, abs=1e-3)
    assert len({best.tokens for best, *_ in ours}) > 8


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_every_id_of_every_tokenizer_has_a_name_of_its_own(kind, make_run, tmp_path):
    sizes = {"bpe": 290, "unigram": 285, "wordpiece": 60, "characters": 18, "words": 16}
    tokenizer = {"kind": kind, "vocab_size": sizes[kind], "vocabulary": "separate"}
    tokenizers = Tokenizers.train(
        TokenizerConfig(**tokenizer), lambda: zip(ODD * 9, LINES, strict=True)
    )
    run = make_run(tokenizers, tokenizer=tokenizer, vocabulary="separate")
    folder = export_ctranslate2(run, tmp_path / "out").folder
    for side in ("source", "target"):
        called = names(getattr(tokenizers, side))
        assert len(set(called)) == sizes[kind]
        assert tuple(called[:4]) == SPECIALS
        assert json.loads((folder / f"{side}_vocabulary.json").read_text()) == called


@pytest.mark.parametrize("vocabulary", ["joint", "shared"])
def test_a_vocabulary_learnt_elsewhere_that_begins_with_padding(vocabulary, make_run, tmp_path):
    ids = {"eos_id": 0, "unk_id": 1, "pad_id": 2, "bos_id": -1}
    options = {"vocab_size": 70, "hard_vocab_limit": False, "minloglevel": 2, **ids}
    prefix = str(tmp_path / "elsewhere")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES), model_prefix=prefix, **options
    )
    source, target = (TOKENIZERS["unigram"].load(Path(f"{prefix}.model")) for _ in range(2))
    tokenizers = Tokenizers(source, source if vocabulary == "joint" else target)
    tokenizer = {"kind": "unigram", "vocabulary": vocabulary}
    run = make_run(tokenizers, prepare=_liven, tokenizer=tokenizer, vocabulary=vocabulary)
    engine = CTranslate2Engine(
        export_ctranslate2(run, tmp_path / "out").folder,
        DecodingConfig(search="greedy", precision="float32"),
    )
    texts = engine.translate(LINES)
    translator = Translator.load(run.path)
    assert texts == Translator(translator.model, run.tokenizers, engine.decoding).translate(LINES)
    assert len(set(texts)) > 5


def test_lines_are_translated_as_by_our_own_engine(trained, tmp_path):
    engine = CTranslate2Engine(export_ctranslate2(trained, tmp_path / "out").folder)
    lines = [*LINES[:20], "", " ", "ka unheard-of ke", *LINES[20:], "\t"]
    assert engine.translate(lines) == Translator.load(trained.path).translate(lines)
    assert engine.translate([]) == []


def test_our_length_penalty_chooses_among_what_its_beam_found(trained, tmp_path):
    folder = export_ctranslate2(trained, tmp_path / "out").folder
    never = [[SPECIALS[PAD]], [SPECIALS[BOS]]]
    options = {"beam_size": 4, "num_hypotheses": 4, "suppress_sequences": never}
    results = _theirs(trained, folder, length_penalty=1.0, **options)
    chosen = [
        max(found, key=lambda target: found[target] * len(target) / (5 + len(target)))
        for found in results
    ]
    assert chosen != [next(iter(found)) for found in results]
    engine = CTranslate2Engine(folder, DecodingConfig(beam_size=4, max_length=LONGEST))
    assert engine.translate(LINES) == trained.tokenizers.target.decode(chosen)


def test_a_text_longer_than_its_positions_is_refused(trained, tmp_path):
    engine = CTranslate2Engine(export_ctranslate2(trained, tmp_path / "out").folder)
    with pytest.raises(CalqueError, match=r"position.* 3000 tokens"):
        engine.translate(["ka ke", "ka " * 3000])


def test_quantised_it_is_smaller_and_the_change_in_bleu_is_told(trained, tmp_path):
    plain = export_ctranslate2(trained, tmp_path / "plain")
    small = export_ctranslate2(trained, tmp_path / "small", "int8")
    assert plain.bleu is None
    assert small.difference == plain.difference
    sizes = [(one.folder / "model.bin").stat().st_size for one in (small, plain)]
    assert sizes[0] < sizes[1]
    assert small.bleu.pairs == len(LINES)
    assert small.bleu.before == pytest.approx(100)  # the references are what our engine made
    texts = CTranslate2Engine(small.folder).translate(LINES)
    references = Translator.load(trained.path).translate(LINES)
    assert small.bleu.after == bleu(texts, references, None) > 20


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_every_quantization_can_be_loaded_without_validation_data(quantization, make_run, tmp_path):
    export = export_ctranslate2(make_run(), tmp_path / "out", quantization)
    assert export.bleu is None
    assert len(CTranslate2Engine(export.folder).translate(LINES[:3])) == 3


def test_quantising_leaves_our_weights_as_they_were(trained):
    model = trained.load_model()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    make_spec(trained, model).optimize("int8")
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name])


def _shift_positions(spec: Any) -> None:
    spec.encoder.position_encodings.encodings = np.roll(
        spec.encoder.position_encodings.encodings.numpy(), 1, axis=0
    )


def _leave_positions_out(spec: Any) -> None:
    spec.decoder.position_encodings.encodings = OPTIONAL


def _swap_keys_and_values(spec: Any) -> None:
    linear = spec.decoder.layer[0].attention.linear[1]
    linear.weight = np.roll(linear.weight.numpy(), len(linear.weight.numpy()) // 2, axis=0)


def _begin_with_the_end(spec: Any) -> None:
    spec.config.decoder_start_token = spec.config.eos_token


def _leave_the_end_out(spec: Any) -> None:
    spec.config.add_source_eos = False


def _widen_epsilon(spec: Any) -> None:
    spec.config.layer_norm_epsilon = 1e-2


def _do_not_scale(spec: Any) -> None:
    spec.encoder.scale_embeddings = 1.0


def _spoil_a_weight(spec: Any) -> None:
    linear = spec.decoder.layer[0].ffn.linear_1
    linear.weight = linear.weight.numpy() * np.float32("nan")


@pytest.mark.parametrize(
    "damage",
    [
        _shift_positions,
        _leave_positions_out,
        _swap_keys_and_values,
        _begin_with_the_end,
        _leave_the_end_out,
        _widen_epsilon,
        _do_not_scale,
        _spoil_a_weight,
    ],
)
def test_a_wrong_export_is_refused_and_leaves_nothing(damage, trained, tmp_path, monkeypatch):
    def wrong(run: RunFolder, model: Transformer) -> Any:
        spec = make_spec(run, model)
        damage(spec)
        spec.validate()
        return spec

    monkeypatch.setattr(exporting, "make_spec", wrong)
    with pytest.raises(CalqueError, match="the exported model is not the same"):
        export_ctranslate2(trained, tmp_path / "out", "int8")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"family": "recurrent"}, "model.family: CTranslate2 has no 'recurrent'"),
        ({"family": "convolutional"}, "model.family: CTranslate2 has no 'convolutional'"),
        ({"d_key": 7}, "model.d_key: CTranslate2 has queries and keys of the width of values"),
    ],
)
def test_another_model_than_a_transformer_of_the_papers_sizes_is_refused(
    parts, message, make_run, tmp_path, monkeypatch
):
    if "family" in parts:
        monkeypatch.setattr(f"{__name__}.SIZES", {"d_model": 16})
    with pytest.raises(CalqueError, match=message):
        export_ctranslate2(make_run(**parts), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("slot", SLOTS)
def test_a_part_that_it_does_not_have_is_refused_by_name(slot, make_run, tmp_path, monkeypatch):
    choices: Any = SLOTS[slot]
    monkeypatch.setitem(choices, "unheard_of", next(iter(choices.values())))
    run = make_run(**{slot: "unheard_of"})
    with pytest.raises(CalqueError, match=f"model.{slot}: CTranslate2 has no 'unheard_of'; it has"):
        export_ctranslate2(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unknown_quantization_is_refused_with_the_choices(trained, tmp_path):
    with pytest.raises(CalqueError, match=r"quantization: no 'int7'; did you mean 'int8'.*int16"):
        export_ctranslate2(trained, tmp_path / "out", "int7")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_left_alone(trained, tmp_path):
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(CalqueError, match="already holds something else"):
        export_ctranslate2(trained, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["kept.txt"]

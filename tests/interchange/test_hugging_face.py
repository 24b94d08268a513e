"""Marian models in and out: the same ids, the same probabilities, the same translations."""

import io
import json
import random
import re
import shutil
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sentencepiece
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from calque.checkpoint import MODEL, RunFolder
from calque.cli import main
from calque.config import CalqueError
from calque.decoding.config import DecodingConfig
from calque.interchange import hugging_face_export
from calque.interchange.equivalence import TOLERANCE, held_out, require_equal
from calque.interchange.export import export
from calque.interchange.hugging_face import ACTIVATIONS
from calque.interchange.hugging_face_export import export_hugging_face
from calque.interchange.hugging_face_import import import_hugging_face
from calque.models.build import ModelConfig, build
from calque.recipe import Recipe
from calque.text.data import CorpusConfig, DataConfig
from calque.text.tokenizers.interface import TokenizerConfig
from calque.text.tokenizers.pair import Tokenizers
from calque.translator import Translator

pytestmark = pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")

WORDS = (
    "a small dog runs across the green meadow and jumps happily through high grass while "
    "children watch from their garden behind another house 3 42 1999 (café), ! quiet zebra",
    "ein kleiner Hund läuft über die grüne Wiese und springt fröhlich durch das hohe Gras "
    "während Kinder aus ihrem Garten hinter einem anderen Haus zusehen 3 42 1999 (Café), !",
)
ENGLISH, GERMAN = (words.split() for words in WORDS)
CODES = (">>deu<<", ">>fra<<")
SPECIAL = ("<unk>", "<s>", "</s>")


def lines(words: Sequence[str], number: int, seed: int = 3) -> list[str]:
    generator = random.Random(seed)
    return [" ".join(generator.choices(words, k=generator.randint(1, 12))) for _ in range(number)]


@cache
def sentence_piece(words: tuple[str, ...], kind: str, size: int) -> bytes:
    model = io.BytesIO()
    trainer: Any = sentencepiece.SentencePieceTrainer
    trainer.train(
        sentence_iterator=iter(lines(words, 300)),
        model_writer=model,
        model_type=kind,
        vocab_size=size,
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def pieces(model: bytes) -> list[str]:
    processor: Any = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(model)
    return [processor.id_to_piece(i) for i in range(processor.vocab_size())]


def write_tokenizer(folder: Path, source: bytes, target: bytes, **settings: object) -> int:
    """Files as opus-mt has them: </s> and <unk> first, padding last; the size of the vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "source.spm").write_bytes(source)
    (folder / "target.spm").write_bytes(target)
    known = sorted({*pieces(source), *pieces(target)} - {*SPECIAL})
    random.Random(1).shuffle(known)
    entries = ["</s>", "<unk>", *known, *CODES, "<pad>"]
    vocabulary = {piece: i for i, piece in enumerate(entries)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), "utf-8")
    settings = {"tokenizer_class": "MarianTokenizer", "source_lang": "en", **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    return len(entries)


def unigram_pair() -> tuple[bytes, bytes]:
    return (
        sentence_piece(tuple(ENGLISH), "unigram", 90),
        sentence_piece(tuple(GERMAN), "unigram", 90),
    )


def make_model(vocab_size: int, **changes: Any) -> Any:
    """A MarianMTModel with random weights, far from those that one starts training with."""
    values = {
        "vocab_size": vocab_size,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "d_model": 32,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "activation_function": "swish",
        "scale_embedding": True,
        "max_position_embeddings": 256,
        "pad_token_id": vocab_size - 1,
        "eos_token_id": 0,
        "decoder_start_token_id": vocab_size - 1,
        "forced_eos_token_id": 0,
    }
    torch.manual_seed(5)
    model: Any = transformers.MarianMTModel(transformers.MarianConfig(**values | changes)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embed_positions" not in name:
                parameter.normal_(mean=float("norm.weight" in name), std=0.3)
        model.final_logits_bias.normal_()
    return model


def fit(model: Any, tokenizer: Any) -> None:
    """Teach a model some words, so that its translations differ and end soon or late."""
    words = dict(zip(ENGLISH, GERMAN, strict=False))
    sources = lines(ENGLISH, 200)
    targets = [" ".join(words.get(word, "das") for word in line.split()) for line in sources]
    source = tokenizer(sources, return_tensors="pt", padding=True)
    labels = tokenizer(text_target=targets, return_tensors="pt", padding=True).input_ids
    labels[labels == tokenizer.pad_token_id] = -100
    torch.manual_seed(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(80):
        rows = torch.randint(len(sources), (16,))
        batch = {name: ids[rows] for name, ids in source.items()}
        optimizer.zero_grad()
        model(**batch, labels=labels[rows]).loss.backward()
        optimizer.step()


def search(vocab_size: int, **changes: Any) -> Any:
    """How a model translates, as opus-mt has it but for what changes."""
    values = {
        "num_beams": 4,
        "max_length": 40,
        "pad_token_id": vocab_size - 1,
        "eos_token_id": 0,
        "decoder_start_token_id": vocab_size - 1,
        "bad_words_ids": [[vocab_size - 1]],
        "forced_eos_token_id": 0,
    }
    return transformers.GenerationConfig(**values | changes)


class Marian(NamedTuple):
    """A folder, what transformers makes of it, and what we make of it."""

    folder: Path
    model: Any
    tokenizer: Any
    run: RunFolder

    @property
    def ours(self) -> Any:
        return self.run.load_model().eval()

    def batch(self, number: int = 12) -> dict[str, Tensor]:
        """Sources of several lengths, and random targets that begin as translations do."""
        source = self.tokenizer(lines(ENGLISH, number, seed=9), return_tensors="pt", padding=True)
        size = self.model.config.decoder_vocab_size
        torch.manual_seed(2)
        target = torch.randint(1, size - 1, (number, 11))
        target[:, 0] = self.model.config.decoder_start_token_id
        return {**source, "decoder_input_ids": target}


def imported(folder: Path, out: Path) -> Marian:
    import_hugging_face(folder, out)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    assert isinstance(tokenizer, transformers.MarianTokenizer)
    return Marian(folder, model, tokenizer, RunFolder(out))


@pytest.fixture(scope="module")
def marian(tmp_path_factory: pytest.TempPathFactory) -> Marian:
    """A Marian model that has learnt some words, as files and imported."""
    folder = tmp_path_factory.mktemp("marian")
    size = write_tokenizer(folder / "hf", *unigram_pair(), target_lang="de")
    model: Any = transformers.MarianMTModel(make_model(size).config)
    model.final_logits_bias.normal_(std=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit(model, transformers.MarianTokenizer.from_pretrained(folder / "hf"))
    model.generation_config = search(size)
    model.eval().save_pretrained(folder / "hf")
    return imported(folder / "hf", folder / "run")


@pytest.fixture
def copied(marian: Marian, tmp_path: Path) -> Path:
    """The files of `marian`, to be changed at will."""
    return shutil.copytree(marian.folder, tmp_path / "hf")


def change_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


@torch.no_grad()
def their_logits(model: Any, batch: dict[str, Tensor]) -> Tensor:
    return model(**batch).logits


@torch.no_grad()
def our_logits(model: Any, batch: dict[str, Tensor]) -> Tensor:
    return model(batch["input_ids"], batch["decoder_input_ids"])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_logits_are_the_same_for_every_activation(copied: Path, tmp_path: Path, activation: str):
    size = json.loads((copied / "config.json").read_text())["vocab_size"]
    make_model(size, activation_function=activation).save_pretrained(copied)
    model = imported(copied, tmp_path / "run")
    batch = model.batch()
    assert (batch["attention_mask"] == 0).any()
    torch.testing.assert_close(
        our_logits(model.ours, batch), their_logits(model.model, batch), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("num_beams", [1, 4])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_translations_are_those_of_generate(marian: Marian, num_beams: int, length_penalty: float):
    sources = lines(ENGLISH, 60, seed=11)
    size = marian.model.config.vocab_size
    settings = {"num_beams": 4, "length_penalty": length_penalty}
    if num_beams == 1:
        settings = {"num_beams": 1}
    decoding = DecodingConfig(
        search="greedy" if num_beams == 1 else "beam",
        beam_size=num_beams,
        length_penalty=length_penalty,
        length_normalisation="power",
        precision="float32",
        max_length=38,
    )
    source = marian.tokenizer(sources, return_tensors="pt", padding=True)
    generated = marian.model.generate(**source, generation_config=search(size, **settings))
    theirs = [[i for i in row if i not in (0, size - 1)] for row in generated.tolist()]
    translator = Translator(marian.ours, marian.run.tokenizers, decoding)
    ours = [list(best.hypothesis.tokens) for best, *_ in translator.n_best(sources)]
    assert len({len(row) for row in theirs}) > 8
    # At the limit theirs calls a forced end certain, and ours as likely as the model does: only
    # among beams does that change what is best.
    ended = [row for row, ids in enumerate(theirs) if num_beams == 1 or len(ids) < 38]
    assert len(ended) > 45
    assert [ours[row] for row in ended] == [theirs[row] for row in ended]


def test_an_import_translates_text_as_its_files_say(marian: Marian):
    recipe = marian.run.recipe
    assert recipe.decoding == DecodingConfig(
        search="beam",
        beam_size=4,
        length_penalty=1.0,
        length_normalisation="power",
        max_length=38,
    )
    assert (recipe.data.source_language, recipe.data.target_language) == ("en", "de")
    sources = lines(ENGLISH, 20, seed=12)
    generated = marian.model.generate(
        **marian.tokenizer(sources, return_tensors="pt", padding=True)
    )
    texts = marian.tokenizer.batch_decode(generated, skip_special_tokens=True)
    decoding = replace(recipe.decoding, precision="float32")
    ours = Translator(marian.ours, marian.run.tokenizers, decoding).translate(sources)
    ended = [row for row, ids in enumerate(generated.tolist()) if ids[-2] in (0, ids[0])]
    assert len(ended) > 10
    assert [ours[row] for row in ended] == [texts[row] for row in ended]


def test_weights_in_pytorch_format_are_the_same(marian: Marian, copied: Path, tmp_path: Path):
    (copied / "model.safetensors").unlink()
    # As older files have them: with the tied matrices and the tables of positions.
    torch.save(marian.model.state_dict(), copied / "pytorch_model.bin")
    import_hugging_face(copied, tmp_path / "run")
    assert (tmp_path / "run" / MODEL).read_bytes() == (marian.run.path / MODEL).read_bytes()


def test_languages_with_a_vocabulary_each(tmp_path: Path):
    folder = tmp_path / "hf"
    source, target = unigram_pair()
    size = write_tokenizer(folder, target, target, separate_vocabs=True)
    (folder / "vocab.json").rename(folder / "target_vocab.json")
    small = write_tokenizer(folder, source, source, separate_vocabs=True)
    assert small < size
    vocabulary = json.loads((folder / "vocab.json").read_text())
    # Padding has one id; between it and the others lie some that have no entry.
    (folder / "vocab.json").write_text(json.dumps(vocabulary | {"<pad>": size - 1}))
    (folder / "target.spm").write_bytes(target)
    make_model(
        size, decoder_vocab_size=size, share_encoder_decoder_embeddings=False
    ).save_pretrained(folder)
    model = imported(folder, tmp_path / "run")
    assert model.run.recipe.tokenizer.vocabulary == "separate"
    batch = model.batch()
    torch.testing.assert_close(
        our_logits(model.ours, batch), their_logits(model.model, batch), atol=1e-5, rtol=0
    )
    assert_same_tokens(model, [*lines(ENGLISH, 5), *lines(GERMAN, 5), *ODD])
    export_hugging_face(model.run, tmp_path / "out")
    back = imported(tmp_path / "out", tmp_path / "back")
    torch.testing.assert_close(their_logits(back.model, batch), their_logits(model.model, batch))


ODD = [
    "",
    " ",
    "  two  spaces  and\ttab ",
    "emoji 😀 unknown Ж dog Жk k",
    "ﬁne ① ｆｕｌｌ \u00ad\u200b\u3000",
    ">>fra<< a small dog",
    ">>deu<<a small dog",
    ">>xyz<< a small dog",
    ">>fra<<",
    ">> not << a code",
    " >>fra<< a dog",
    "a >>fra<< dog",
    ">><<",
    "▁a▁ dog",
]


def assert_same_tokens(model: Marian, texts: list[str]) -> None:
    """Both languages' ids are MarianTokenizer's, and so is what they are decoded to."""
    tokenizers, end = model.run.tokenizers, model.tokenizer.eos_token_id
    theirs = model.tokenizer(texts).input_ids
    assert [[*row, end] for row in tokenizers.source.encode(texts)] == theirs
    theirs = model.tokenizer(text_target=texts).input_ids
    ours = tokenizers.target.encode(texts)
    assert [[*row, end] for row in ours] == theirs
    # Theirs leaves unknown tokens out, and spaces at either end.
    known = [[i for i in row if i != tokenizers.special.unk] for row in ours]
    assert_same_texts(model, known)


def assert_same_texts(model: Marian, ids: list[list[int]]) -> None:
    theirs = model.tokenizer.batch_decode(ids, skip_special_tokens=True)
    assert [text.strip() for text in model.run.tokenizers.target.decode(ids)] == theirs


def test_ids_and_texts_are_those_of_marian_tokenizer(marian: Marian):
    assert marian.run.recipe.tokenizer.vocabulary == "shared"
    assert_same_tokens(marian, [*lines(ENGLISH, 40), *lines(GERMAN, 40), *ODD])
    generator = random.Random(4)
    ids = range(2, marian.model.config.vocab_size - 1)
    assert_same_texts(marian, [generator.choices(ids, k=12) for _ in range(100)])


FRAGMENTS = [*"abdeghk ▁>>frau<<_Жßﬁ①😀\t", "dog", ">>fra<<", ">>"]


def test_a_code_is_first_in_sampled_segmentations_too(marian: Marian):
    tokenizer = marian.run.tokenizers.source
    (code,) = tokenizer.encode([">>fra<<"])[0]
    sampled = [tokenizer.sample([">>fra<< a small dog"], 0.2, seed)[0] for seed in range(20)]
    assert {row[0] for row in sampled} == {code}
    assert len({tuple(row) for row in sampled}) > 1


@given(fragments=st.lists(st.sampled_from(FRAGMENTS), max_size=20))
def test_any_text_has_the_same_ids(marian: Marian, fragments: list[str]):
    assert_same_tokens(marian, ["".join(fragments)])


def test_bpe_of_one_vocabulary_and_its_languages(tmp_path: Path):
    both = sentence_piece(tuple(ENGLISH + GERMAN), "bpe", 200)
    size = write_tokenizer(tmp_path / "hf", both, both)
    make_model(size).save_pretrained(tmp_path / "hf")
    model = imported(tmp_path / "hf", tmp_path / "run")
    assert model.run.recipe.tokenizer.kind == "bpe"
    assert model.run.recipe.tokenizer.vocabulary == "joint"
    assert_same_tokens(model, [*lines(ENGLISH, 40), *lines(GERMAN, 40), *ODD])


def test_bpe_that_other_entries_would_change_is_refused(tmp_path: Path):
    pair = [sentence_piece(tuple(words), "bpe", 120) for words in (ENGLISH, GERMAN)]
    size = write_tokenizer(tmp_path / "hf", *pair)
    make_model(size).save_pretrained(tmp_path / "hf")
    refuses_import(tmp_path / "hf", r"source\.spm: BPE with other pieces than vocab\.json")


def test_pieces_that_the_vocabulary_lacks_are_told(copied: Path, tmp_path: Path):
    vocabulary = json.loads((copied / "vocab.json").read_text())
    piece = next(p for p in pieces(unigram_pair()[0]) if p not in SPECIAL and len(p) > 3)
    i = vocabulary.pop(piece)
    (copied / "vocab.json").write_text(json.dumps(vocabulary))
    notes = import_hugging_face(copied, tmp_path / "run")
    assert [note for note in notes if note.startswith("source.spm: 1 of its pieces")] == notes[:1]
    tokenizer = RunFolder(tmp_path / "run").tokenizers.source
    rows = tokenizer.encode([piece.replace("▁", " ")])
    assert i not in rows[0] and tokenizer.special.unk not in rows[0]


def refuses_import(folder: Path, message: str) -> None:
    out = folder.with_name("refused")
    with pytest.raises(CalqueError, match=message):
        import_hugging_face(folder, out)
    assert not out.exists()
    assert not list(out.parent.glob(".*part"))


@pytest.mark.parametrize(
    ("key", "value", "possible"),
    [
        ("model_type", "bart", "marian, pegasus"),
        ("tie_word_embeddings", False, "true"),
        ("scale_embedding", False, "true"),
        ("normalize_embedding", True, "false"),
        ("normalize_before", True, "false"),
        ("add_final_layer_norm", True, "false"),
        ("static_position_embeddings", False, "true"),
        ("decoder_attention_heads", 8, "4, as encoder_attention_heads"),
        ("decoder_ffn_dim", 64, "48, as encoder_ffn_dim"),
        ("activation_function", "gelu_new", "gelu, relu, silu, swish"),
        ("eos_token_id", [0, 1], "one id"),
        ("decoder_start_token_id", 10_000, "one id"),
    ],
)
def test_what_no_part_expresses_is_refused(copied: Path, key: str, value: object, possible: str):
    change_config(copied, **{key: value})
    (copied / "generation_config.json").unlink()
    refuses_import(copied, rf"config\.json: {key} is {value!r}.*{possible}".replace("[", r"\["))


def test_what_does_not_fit_together_is_refused(marian: Marian, copied: Path):
    size = marian.model.config.vocab_size
    change_config(copied, d_model=31)
    refuses_import(copied, r"config\.json.*d_model 31")
    change_config(copied, d_model=64)
    refuses_import(copied, r"model\.shared\.weight is \(\d+, 32\), expected \(\d+, 64\)")
    change_config(copied, d_model=32, encoder_layers=2)
    refuses_import(copied, r"no tensor model\.encoder\.layers\.1")
    change_config(copied, encoder_layers=1, vocab_size=size + 1)
    refuses_import(copied, rf"is \({size}, 32\), expected \({size + 1}, 32\)")
    vocabulary = json.loads((copied / "vocab.json").read_text())
    (copied / "vocab.json").write_text(json.dumps(vocabulary | {"new": size + 1}))
    refuses_import(copied, rf"vocab\.json: 'new': expected an id from 0 to {size}, not {size + 1}")
    change_config(copied, vocab_size=None)
    refuses_import(copied, r"config\.json: vocab_size is missing")


@pytest.mark.parametrize(
    "name", ["config.json", "source.spm", "target.spm", "vocab.json", "model.safetensors"]
)
def test_missing_or_damaged_files_are_named(copied: Path, name: str):
    whole = (copied / name).read_bytes()
    for content in (b"", b"\xff" + whole[: len(whole) // 2]):
        (copied / name).write_bytes(content)
        refuses_import(copied, name)
    (copied / name).unlink()
    refuses_import(copied, name)


def test_vocabularies_with_other_meanings_are_refused(copied: Path):
    vocabulary = json.loads((copied / "vocab.json").read_text())
    end = vocabulary["<pad>"]
    for changes, message in (
        ({"<unk>": None}, "has no entry <unk>"),
        ({"</s>": 1}, "an id occurs twice"),
        ({"</s>": end, "<pad>": 0}, f"<pad> is 0, but the model takes {end} for it"),
    ):
        changed = {k: v for k, v in (vocabulary | changes).items() if v is not None}
        (copied / "vocab.json").write_text(json.dumps(changed))
        refuses_import(copied, rf"vocab\.json: {message}")


def test_weights_that_are_not_those_are_refused(marian: Marian, copied: Path):
    (copied / "model.safetensors").unlink()
    state = marian.model.state_dict()
    for name, message in (
        ("lm_head.weight", "differ; expected one matrix"),
        ("model.decoder.embed_positions.weight", "are no sinusoids"),
    ):
        torch.save({**state, name: state[name] + 1}, copied / "pytorch_model.bin")
        refuses_import(copied, message)
    norm = "model.decoder.layers.1.final_layer_norm.bias"
    torch.save({**state, norm: state[norm] * torch.nan}, copied / "pytorch_model.bin")
    refuses_import(copied, rf"{norm} holds numbers that are not finite")
    more = norm.replace("1", "2")
    torch.save({**state, more: state[norm]}, copied / "pytorch_model.bin")
    refuses_import(copied, rf"{more} is of a layer that config\.json does not have")
    torch.save({"code": Path}, copied / "pytorch_model.bin")
    refuses_import(copied, r"pytorch_model\.bin: holds something else than weights")


def test_what_is_no_part_of_the_model_is_left_out_and_told(
    marian: Marian, copied: Path, tmp_path: Path
):
    (copied / "model.safetensors").unlink()
    state = marian.model.state_dict() | {"version": torch.zeros(1)}
    torch.save(state, copied / "pytorch_model.bin")
    settings = {"tokenizer_class": "MarianTokenizer", "source_lang": "de", "target_lang": "ROMANCE"}
    (copied / "tokenizer_config.json").write_text(json.dumps(settings))
    (note,) = import_hugging_face(copied, tmp_path / "run")
    assert re.search(r"pytorch_model\.bin: left out, .*: version$", note)
    data = RunFolder(tmp_path / "run").recipe.data
    assert (data.source_language, data.target_language) == ("de", None)


def test_nothing_is_imported_over_something(marian: Marian):
    with pytest.raises(CalqueError, match="already holds a run"):
        import_hugging_face(marian.folder, marian.run.path)


def test_there_and_back_changes_nothing(marian: Marian, tmp_path: Path):
    export_hugging_face(marian.run, tmp_path / "out")
    back = imported(tmp_path / "out", tmp_path / "back")
    batch = marian.batch()
    torch.testing.assert_close(their_logits(back.model, batch), their_logits(marian.model, batch))
    assert torch.equal(our_logits(back.ours, batch), our_logits(marian.ours, batch))
    assert back.run.recipe == marian.run.recipe
    assert_same_tokens(back, [*lines(ENGLISH, 10), *lines(GERMAN, 10), *ODD])


TRAINED: dict[str, Tokenizers] = {}


def random_run(path: Path, tokenizer: TokenizerConfig | None = None, **parts: Any) -> RunFolder:
    """A run folder with random weights; its tokenizer knows English and German."""
    tokenizer = tokenizer or TokenizerConfig(kind="bpe", vocab_size=400)
    pairs = list(zip(lines(ENGLISH, 100), lines(GERMAN, 100), strict=True))
    if str(tokenizer) not in TRAINED:
        TRAINED[str(tokenizer)] = Tokenizers.train(tokenizer, lambda: iter(pairs))
    tokenizers = TRAINED[str(tokenizer)]
    sizes = {"num_encoder_layers": 2, "num_decoder_layers": 1, "d_model": 32, "d_ff": 48}
    recipe = Recipe(
        data=DataConfig(
            train=(CorpusConfig(source="a", target="b"),),
            valid=(CorpusConfig(source="a", target="b"),),
        ),
        tokenizer=tokenizer,
        model=ModelConfig(**sizes, num_heads=4, **parts),
        decoding=DecodingConfig(search="greedy", precision="float32", max_length=20),
    )
    torch.manual_seed(3)
    vocabularies = tokenizers.source.vocab_size, tokenizers.target.vocab_size
    model = build(recipe.model, *vocabularies, vocabulary=tokenizer.vocabulary)
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean=float("norm.weight" in name), std=0.3)
    return RunFolder.create(path, recipe, tokenizers, {}, model.state_dict())


@pytest.mark.parametrize(
    ("parts", "architecture"),
    [
        ({}, "MarianMTModel"),
        ({"heads": "biased", "output": "biased", "feed_forward": "swish"}, "MarianMTModel"),
        ({"positions": "half_split", "feed_forward": "gelu"}, "MarianMTModel"),
        ({"residual": "pre"}, "PegasusForConditionalGeneration"),
        (
            {"residual": "pre", "positions": "half_split", "heads": "biased"},
            "PegasusForConditionalGeneration",
        ),
        ({"residual": "pre", "positions": "learned"}, "BlenderbotForConditionalGeneration"),
    ],
)
def test_exports_translate_as_their_runs_do(
    tmp_path: Path, parts: dict[str, str], architecture: str
):
    run = random_run(tmp_path / "run", **parts)
    done = export_hugging_face(run, tmp_path / "out")
    assert done.architecture == architecture
    assert done.difference < TOLERANCE
    # There, and back again with what their architecture has and ours had not: biases of zero.
    theirs = imported(tmp_path / "out", tmp_path / "back")
    assert type(theirs.model).__name__ == architecture
    theirs.model.config.decoder_vocab_size = 400
    batch = theirs.batch()
    logits = our_logits(run.load_model().eval(), batch)
    for others in (their_logits(theirs.model, batch), our_logits(theirs.ours, batch)):
        torch.testing.assert_close(others, logits, atol=1e-4, rtol=0)
    sources = lines(ENGLISH, 12, seed=7)
    found = theirs.model.generate(**theirs.tokenizer(sources, return_tensors="pt", padding=True))
    special = run.tokenizers.special
    tokens = [
        [i for i in row if i not in (special.pad, special.bos, special.eos)]
        for row in found.tolist()
    ]
    ours = [list(best.hypothesis.tokens) for best, *_ in Translator.load(run.path).n_best(sources)]
    assert tokens == ours
    assert len({tuple(row) for row in ours}) > 1


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_tokenizers_of_an_export_are_the_same(tmp_path: Path, kind: str):
    config = TokenizerConfig(kind=kind, vocab_size=350)
    export_hugging_face(random_run(tmp_path / "run", config), tmp_path / "out")
    model = imported(tmp_path / "out", tmp_path / "back")
    texts = [*lines(ENGLISH, 20), *lines(GERMAN, 20), "Ж😀 new", "tab\t x  y ", ""]
    assert_same_tokens(model, texts)
    ours = RunFolder(tmp_path / "run").tokenizers.source
    assert model.run.tokenizers.source.encode(texts) == ours.encode(texts)


@pytest.mark.parametrize(
    ("parts", "tokenizer", "message"),
    [
        ({"positions": "learned"}, {}, r"model\.positions learned: .*marian.*half_split"),
        ({"positions": "relative"}, {}, r"model\.positions relative: .*marian.*sinusoidal"),
        (
            {"positions": "relative", "residual": "pre"},
            {},
            r"model\.positions relative: .*pegasus.*learned",
        ),
        (
            {"residual": "pre"},
            {"vocabulary": "separate", "vocab_size": 350},
            r"tokenizer\.vocabulary separate: .*pegasus",
        ),
        (
            {},
            {"kind": "wordpiece", "vocab_size": 150},
            r"tokenizer\.kind wordpiece: .*bpe, unigram",
        ),
        ({}, {"kind": "characters", "vocab_size": 40}, r"tokenizer\.kind characters"),
    ],
)
def test_what_their_models_do_not_have_is_refused_by_name(
    tmp_path: Path, parts: dict[str, str], tokenizer: dict[str, Any], message: str
):
    config = replace(TokenizerConfig(kind="bpe", vocab_size=400), **tokenizer)
    run = random_run(tmp_path / "run", config, **parts)
    with pytest.raises(CalqueError, match=message):
        export_hugging_face(run, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_an_export_that_is_not_the_same_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = random_run(tmp_path / "run")  # its sinusoids alternate, theirs do not
    monkeypatch.setattr(hugging_face_export, "stream_order", lambda *_: torch.arange(32))
    with pytest.raises(CalqueError, match=r"Hugging Face: .* not the same.*nothing was written"):
        export_hugging_face(run, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_an_occupied_folder_is_left_alone(marian: Marian, tmp_path: Path):
    (tmp_path / "mine").write_text("x")
    for form in ("hugging-face", "ctranslate2"):
        with pytest.raises(CalqueError, match="already holds something else"):
            export(marian.run, tmp_path, form, None)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_length_penalties_are_told_as_far_as_theirs_can_be(tmp_path: Path):
    run = random_run(tmp_path / "run")
    for decoding, expected in (
        (DecodingConfig(length_penalty=0.7, length_normalisation="power"), 0.7),
        (DecodingConfig(length_penalty=0.5, length_normalisation="wu"), 0.4),
    ):
        run.recipe = replace(run.recipe, decoding=decoding)
        folder = tmp_path / decoding.length_normalisation
        export_hugging_face(run, folder)
        found = transformers.GenerationConfig.from_pretrained(folder)
        assert found.length_penalty == pytest.approx(expected)
        assert (found.num_beams, found.max_length) == (5, 258)


def test_a_difference_is_measured_and_too_large_a_one_refused():
    ours = torch.tensor([-1.0, -2.0])
    assert require_equal(ours, ours + TOLERANCE / 2, "theirs") == pytest.approx(5e-5, rel=0.01)
    for theirs in (ours + 2 * TOLERANCE, ours * torch.nan):
        with pytest.raises(CalqueError, match="theirs: the exported model is not the same"):
            require_equal(ours, theirs, "theirs")


def test_held_out_are_validation_pairs_or_else_random_tokens(tmp_path: Path):
    run = random_run(tmp_path / "run")
    special = run.tokenizers.special
    unread = held_out(run)
    rows = [[i for i in row if i != special.pad] for row in unread.source.tolist()]
    assert len({tuple(row) for row in rows}) == len(rows)
    assert len({len(row) for row in rows}) > 10
    corpus = CorpusConfig(source=str(tmp_path / "a"), target=str(tmp_path / "b"))
    sources, targets = lines(ENGLISH, 5), lines(GERMAN, 5)
    (tmp_path / "a").write_text("\n".join(sources))
    (tmp_path / "b").write_text("\n".join(targets))
    run.recipe = replace(run.recipe, data=replace(run.recipe.data, valid=(corpus,)))
    batch = held_out(run)
    decode = run.tokenizers.source.decode
    assert decode(batch.source.tolist()) == sources
    assert decode(batch.target.tolist()) == targets
    assert (batch.target[:, 0] == special.bos).all()
    for ids in (batch.source, batch.target):
        assert ((ids == special.eos).sum(dim=1) == 1).all()


def test_a_missing_library_is_named_with_what_installs_it(
    marian: Marian, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for form, library, module in (
        ("hugging-face", "transformers", "hugging_face_export"),
        ("ctranslate2", "ctranslate2", "ctranslate2"),
    ):
        monkeypatch.setitem(sys.modules, library, None)
        monkeypatch.delitem(sys.modules, f"calque.interchange.{module}", raising=False)
        with pytest.raises(CalqueError, match=rf"{library} is not .*pip install 'calque\[export\]"):
            export(marian.run, tmp_path / "out", form, None)


def test_forms_and_their_settings(marian: Marian, tmp_path: Path):
    with pytest.raises(CalqueError, match=r"--to: no 'hugging-fase'; did you mean 'hugging-face'"):
        export(marian.run, tmp_path / "out", "hugging-fase", None)
    with pytest.raises(CalqueError, match="--quantization int8: only --to ctranslate2"):
        export(marian.run, tmp_path / "out", "hugging-face", "int8")
    said = export(marian.run, tmp_path / "out", "hugging-face", None)
    assert "MarianMTModel" in said[0] and "at most" in said[1]
    said = export(marian.run, tmp_path / "ct2", "ctranslate2", "int8")
    assert "int8" in said[0] and "BLEU was not measured" in said[2]


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> object:
    """The exit code of a command."""
    monkeypatch.setattr(sys, "argv", ["calque", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code


def test_commands(
    marian: Marian,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    run, out = tmp_path / "run", tmp_path / "out"
    assert command(monkeypatch, "import", marian.folder, "--out", run) == 0
    assert command(monkeypatch, "export", run, "--to", "hugging-face", out) == 0
    said = capsys.readouterr()
    assert f"{run}: imported from {marian.folder}" in said.out
    assert f"{out}: MarianMTModel" in said.out
    assert said.err == ""
    assert command(monkeypatch, "export", run, "--to", "hugging-face", out) == 2
    assert command(monkeypatch, "import", tmp_path, "--out", tmp_path / "run2") == 2
    said = capsys.readouterr()
    refused, missing = said.err.splitlines()
    assert refused.startswith(f"Error: {out}: already holds something else")
    assert missing == f"Error: {tmp_path / 'config.json'}: there is no such file"


def test_shared_vocabularies_are_imported_not_learnt():
    config = TokenizerConfig(vocabulary="shared")
    with pytest.raises(CalqueError, match=r"tokenizer\.vocabulary: shared.*joint or separate"):
        Tokenizers.train(config, lambda: iter([("a", "b")]))

"""From the files of a recipe to token stores, and what is said on the way."""

import io
import shutil

import pytest
from rich.console import Console

from calque.config import CalqueError
from calque.text.tokenizers.interface import UNK
from calque.training.course import Course
from calque.training.preparation import (
    changed_split,
    describe,
    learn_tokenizers,
    prepare_corpora,
    show,
)


def test_counts_what_was_read_and_what_was_left_out(tiny, corpus, tmp_path, console):
    data = shutil.copytree(corpus, tmp_path / "corpus")
    with (data / "train.en").open("a") as source, (data / "train.de").open("a") as target:
        source.write("\nword " * 2 + "long " * 300 + "\n")
        target.write("leer\nWort\nlang\n")
    pair = [str(data / "train.en"), str(data / "train.de")]
    recipe = tiny(data={"train": pair})
    tokenizers = learn_tokenizers(recipe, console)
    description = describe(prepare_corpora(recipe, tokenizers, console), recipe, tokenizers)
    assert description["train"]["pairs"] == 161
    assert description["train"]["left_out"] == {"empty source": 1, "source over 256 tokens": 1}
    assert description["valid"]["pairs"] == 8
    assert 0 < description["padding"] < 0.5
    show(description, recipe, console)
    assert "train: 161 pairs" in console.file.getvalue()
    assert "left out: 1 empty source, 1 source over 256 tokens" in console.file.getvalue()


@pytest.mark.parametrize("weight", [1, 2.3, 0.5, 1e-6])
def test_batches_per_epoch_are_those_of_the_course(weight, tiny, corpus, tmp_path, console):
    pair = {
        side: str(corpus / f"train.{code}") for side, code in (("source", "en"), ("target", "de"))
    }
    recipe = tiny(data={"train": [pair | {"weight": weight}]})
    tokenizers = learn_tokenizers(recipe, console)
    corpora = prepare_corpora(recipe, tokenizers, console)
    description = describe(corpora, recipe, tokenizers)
    course = Course(corpora.train, tokenizers, recipe, recipe.training.batch_tokens, tmp_path)
    assert description["batches_per_epoch"] == len(list(course.batches(0, 0)))


def test_validation_pairs_are_never_left_out(tiny, corpus, tmp_path, console):
    data = shutil.copytree(corpus, tmp_path / "corpus")
    (data / "valid.en").write_text("long " * 300 + "\n")
    (data / "valid.de").write_text("kurz\n")
    recipe = tiny(data={"valid": [str(data / "valid.en"), str(data / "valid.de")]})
    tokenizers = learn_tokenizers(recipe, console)
    assert len(prepare_corpora(recipe, tokenizers, console).valid) == 1


@pytest.mark.parametrize("kind", ["words", "bpe"])
def test_what_has_no_entry_is_counted_and_told(kind, tiny, corpus, console):
    recipe = tiny(tokenizer={"kind": kind, "vocab_size": 100 if kind == "words" else 330})
    tokenizers = learn_tokenizers(recipe, console)
    description = describe(prepare_corpora(recipe, tokenizers, console), recipe, tokenizers)
    show(description, recipe, console)
    told = console.file.getvalue()
    for split in ("train", "valid"):
        expected = []
        for side, tokenizer in (("en", tokenizers.source), ("de", tokenizers.target)):
            rows = tokenizer.encode((corpus / f"{split}.{side}").read_text().splitlines())
            expected.append(sum(row.count(UNK) for row in rows))
        counts = [description[split][f"{side}_unknown"] for side in ("source", "target")]
        assert counts == expected
        assert any(counts) == (kind == "words")
        assert (f"tokens (unknown: {counts[0]:,} + {counts[1]:,}); left" in told) == any(counts)


def test_a_validation_pair_beyond_learned_positions_is_named(tiny, corpus, tmp_path, console):
    data = shutil.copytree(corpus, tmp_path / "corpus")
    (data / "valid.en").write_text("short\n" + "1 " * 600 + "\n")
    (data / "valid.de").write_text("kurz\nlang\n")
    files = {"valid": [str(data / "valid.en"), str(data / "valid.de")]}
    tokenizers = learn_tokenizers(tiny(data=files), console)
    assert len(prepare_corpora(tiny(data=files), tokenizers, console).valid) == 2
    place = "the model has a place for 1,023"
    with pytest.raises(CalqueError, match=rf"valid.en:2: 1,\d+ tokens; {place}"):
        prepare_corpora(tiny(data=files, model={"positions": "learned"}), tokenizers, console)


def test_data_that_are_the_same_have_not_changed(tiny, console):
    recipe = tiny()
    tokenizers = learn_tokenizers(recipe, console)
    description = describe(prepare_corpora(recipe, tokenizers, console), recipe, tokenizers)
    assert changed_split(recipe, tokenizers, description) == ""
    assert changed_split(tiny(data={"max_length": 20}), tokenizers, description) == "train"


def test_a_terminal_sees_how_many_pairs_have_been_read(tiny, monkeypatch):
    monkeypatch.setattr("calque.training.preparation.SHOW_EVERY", 20)
    terminal = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    updates = []
    monkeypatch.setattr("rich.status.Status.update", lambda _, text, **__: updates.append(text))
    recipe = tiny()
    prepare_corpora(recipe, learn_tokenizers(recipe, terminal), terminal)
    assert updates[:2] == [f"learning the tokenizer: {number} pairs" for number in (20, 40)]


def test_a_cache_that_cannot_be_written_is_an_error_that_names_it(
    tiny, tmp_path, monkeypatch, console
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    recipe = tiny()
    with pytest.raises(CalqueError, match=r"file/calque: cannot be written"):
        prepare_corpora(recipe, learn_tokenizers(recipe, console), console)

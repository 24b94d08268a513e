"""Every family, and parts that are far from the paper's, by the command line."""

from pathlib import Path

import pytest

from calque.benchmark.run import benchmark

RECIPE = """
[data]
train = ["train.en", "train.de"]
valid = ["valid.en", "valid.de"]
[tokenizer]
kind = "words"
vocab_size = 500
[model]
num_encoder_layers = 1
num_decoder_layers = 1
d_model = 16
{model}
[training]
max_steps = 12
batch_tokens = 512
validate_every = 6
save_every = 4
schedule = "cosine"
learning_rate = 0.01
warmup_steps = 2
[decoding]
max_length = 12
"""
MODELS = {
    "recurrent": 'family = "recurrent"\nattention = "additive"',
    "bottleneck": 'family = "recurrent"\nattention = "none"\ncell = "lstm"',
    "convolutional": 'family = "convolutional"\nwindow = 5',
    "far": 'd_ff = 24\nnum_heads = 2\npositions = "rotary"\nscore = "cosine"\npattern = "bigbird"\n'
    'heads = "shared_query_key"\nfeed_forward = "swiglu"\nnorm = "batch"\nresidual = "pre"\n'
    "d_key = 6\nattention_dropout = 0.1\nwindow = 2\nglobal_tokens = 2",
}


@pytest.mark.parametrize("name", MODELS)
def test_it_trains_translates_and_is_measured(name, calque, here):
    (here / "family.toml").write_text(RECIPE.format(model=MODELS[name]))
    trained = calque("train", "family.toml", "--out", "other")
    assert trained.code == 0, trained.err
    lines = (here / "test.en").read_text("utf-8").splitlines()[:3]
    translated = calque("translate", "other", stdin="\n".join([*lines, "", ""]).encode())
    assert (translated.code, translated.out.count("\n")) == (0, 4)
    assert benchmark(Path("other"), seconds=0.5).share > 0


def test_a_family_has_its_own_keys(calque, here):
    recipe = RECIPE.format(model='family = "recurrent"\nnum_heads = 4')
    (here / "family.toml").write_text(recipe)
    refused = calque("train", "family.toml", "--out", "other")
    assert refused.code == 2
    assert "family.toml.model: unknown key 'num_heads'" in refused.err
    assert "attention, cell, d_model" in refused.err
    (here / "family.toml").write_text(recipe.replace("recurrent", "recurent"))
    refused = calque("train", "family.toml", "--out", "other")
    assert "family.toml.model.family: no 'recurent'; did you mean 'recurrent'?" in refused.err
    assert not (here / "other").exists()

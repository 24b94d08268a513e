"""Every view becomes a picture, whatever the text is."""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import imread

from calque.config import CalqueError
from calque.inspection import look
from calque.inspection.embeddings import embeddings
from calque.inspection.pictures import figures, write_pictures
from calque.inspection.positions import positions

SERIES = {
    "loss": [[1, 5.0], [2, 4.0]],
    "valid_loss": [[2, 4.5]],
    "valid_bleu": [],
    "learning_rate": [[1, 0.1], [2, 0.1]],
    "tokens_per_second": [[1, 100.0]],
}


def test_each_view_is_a_picture(make_translator: Callable, tmp_path: Path) -> None:
    translator = make_translator()
    report = look(translator, "The old $man$ opens 中 the door.").to_json()
    report |= {"positions": positions(translator), "embeddings": embeddings(translator)}
    report["training"] = [{"name": name, "series": SERIES} for name in ("_a", "b$")]
    written = write_pictures(report, tmp_path / "new" / "pictures")
    names = ["attention-encoder", "attention-decoder", "attention-cross", "alignment", "tokens"]
    names += ["beam", "positions-1", "positions-scores", "embeddings-both", "training"]
    assert [path.stem for path in written] == names
    for path in written:
        picture = imread(path)
        assert min(picture.shape[:2]) > 200
        assert picture[..., :3].std() > 0.02  # something is drawn


@pytest.mark.parametrize("text", ["A man.", "The old man opens the door. " * 12], ids=len)
def test_no_name_of_a_grid_lies_on_another(make_translator: Callable, text: str) -> None:
    translator = make_translator(num_encoder_layers=1, num_decoder_layers=1)
    drawn = dict(figures(look(translator, text).to_json()))
    for kind in ("encoder", "decoder", "cross"):
        figure = drawn[f"attention-{kind}"]
        renderer = FigureCanvasAgg(figure).get_renderer()
        boxes = [t.get_window_extent(renderer) for t in figure.axes[0].texts]
        assert len(boxes) == 1 + 5 + 1  # title, mean and heads, layer
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
        width = figure.axes[0].get_window_extent(renderer).width
        assert max(box.width for box in boxes) < 1.4 * width


def test_what_there_is_not_is_left_out(make_translator: Callable, tmp_path: Path) -> None:
    translator = make_translator(family="recurrent", attention="none")
    report = look(translator, "The old man").to_json() | {"positions": positions(translator)}
    assert [path.stem for path in write_pictures(report, tmp_path)] == ["tokens", "beam"]


def test_an_empty_sentence_has_pictures_too(make_translator: Callable, tmp_path: Path) -> None:
    names = [path.stem for path in write_pictures(look(make_translator(), "").to_json(), tmp_path)]
    assert names == [
        "attention-encoder",
        "attention-decoder",
        "attention-cross",
        "alignment",
        "tokens",
    ]


def test_a_folder_that_cannot_be_made_is_named(make_translator: Callable, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CalqueError, match="file"):
        write_pictures(look(make_translator(), "a").to_json(), tmp_path / "file")

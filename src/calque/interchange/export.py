"""Out of a run folder, into the format that is asked for."""

# ruff: noqa: PLC0415
# The peers come with the extra `export` and take seconds to import.

from collections.abc import Callable
from pathlib import Path

from calque.checkpoint import RunFolder
from calque.config import CalqueError, choose

PEERS = "ctranslate2", "transformers"


def export(run: RunFolder, folder: Path, form: str, quantization: str | None) -> list[str]:
    """Write a run's model to `folder` in a form of FORMS; lines that say what it came to.

    Raises CalqueError for an unknown form, for what the form does not have, when the model would
    not be the same there, and when `folder` is occupied or the form's library is not installed.
    """
    write = choose("--to", form, FORMS)
    try:
        return write(run, folder, quantization)
    except ModuleNotFoundError as error:
        if error.name not in PEERS:
            raise
        raise CalqueError(
            f"--to {form}: {error.name} is not installed; pip install 'calque[export]'"
        ) from None


def _to_hugging_face(run: RunFolder, folder: Path, quantization: str | None) -> list[str]:
    from calque.interchange.hugging_face_export import export_hugging_face

    if quantization is not None:
        raise CalqueError(f"--quantization {quantization}: only --to ctranslate2 has it")
    done = export_hugging_face(run, folder)
    return [
        f"{folder}: {done.architecture} and MarianTokenizer",
        f"log-probabilities differ from ours by at most {done.difference:.1e}",
    ]


def _to_ctranslate2(run: RunFolder, folder: Path, quantization: str | None) -> list[str]:
    from calque.interchange.ctranslate2 import export_ctranslate2

    done = export_ctranslate2(run, folder, quantization)
    lines = [
        f"{folder}: CTranslate2 model, {quantization or 'float32'}",
        f"log-probabilities in float32 differ from ours by at most {done.difference:.1e}",
    ]
    if done.bleu is not None:
        before, after = done.bleu.before, done.bleu.after
        lines.append(
            f"BLEU of {done.bleu.pairs:,} validation pairs: {before:.2f} in float32, "
            f"{after:.2f} in {quantization} ({after - before:+.2f})"
        )
    elif quantization is not None:
        lines.append("BLEU was not measured: the recipe's validation pairs are not here")
    return lines


FORMS: dict[str, Callable[[RunFolder, Path, str | None], list[str]]] = {
    "hugging-face": _to_hugging_face,
    "ctranslate2": _to_ctranslate2,
}

"""Draw the figures of the page "The stations" from the kept results, and from the code itself.

    python experiments/the-story/draw_stations.py docs/stations

Those of results are in from_results.py, the others in from_code.py, what they share in panels.py.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import from_code
import from_results
import numpy as np
import torch
from matplotlib.figure import Figure


def main() -> None:
    """Parse, and draw all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the figures go")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    for name, (draw, panels, height) in STATIONS.items():
        torch.manual_seed(1)
        figure = Figure(figsize=(4.2 * panels, height), layout="constrained")
        draw(*np.atleast_1d(figure.subplots(1, panels)))
        figure.savefig(given.folder / f"{name}.png", dpi=110)


STATIONS: dict[str, tuple[Callable[..., None], int, float]] = {
    "01-bottleneck": (from_results.bottleneck, 2, 3),
    "02-parallel": (from_results.parallel, 2, 1.7),
    "03-distance": (from_results.distance, 2, 3),
    "04-windows": (from_code.windows, 1, 2),
    "05-embeddings": (from_results.embeddings, 2, 1.4),
    "06-weights": (from_code.weights, 3, 1.2),
    "07-scores": (from_results.scores, 2, 2.4),
    "08-scaling": (from_results.scaling, 2, 2.8),
    "09-symmetry": (from_code.symmetry, 2, 3),
    "10-heads": (from_results.heads, 2, 3.6),
    "11-order": (from_code.order, 1, 2.2),
    "12-rank": (from_results.rank, 1, 2.8),
    "13-counts": (from_code.counts, 3, 2.6),
    "14-sinusoids": (from_results.sinusoids, 3, 2.8),
    "15-positions": (from_results.positions, 1, 2.9),
    "16-residuals": (from_results.residuals, 1, 2.8),
    "17-norms": (from_results.norms, 1, 1.9),
    "18-masks": (from_code.masks, 2, 2.6),
    "19-regularisation": (from_results.regularisation, 2, 2.2),
    "20-data-size": (from_results.data_size, 2, 2.8),
}
"""By the name of its file, what draws a figure, its number of panels, and its height in inches."""


if __name__ == "__main__":
    main()

"""Data sets of made-up texts whose lengths are distributed as those of MRPC and SST-2."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# Each of these is one token of the uncased WordPiece vocabulary of BERT.
_WORDS = (
    "the of and in to was he is as for on with that it his by at from her she you had an were but be this are not my "
    "they one which or have him me first all also their has up who out been when after there into new two its time "
    "would no what about said we over then other so more can if like back them only some could where just during "
    "before do made school through than now years most world may between down well three year while will later city"
).split()
_SPECIAL_TOKENS = {1: 2, 2: 3}


@dataclass(frozen=True)
class Shape:
    """Token lengths by quantile, special tokens included, and how many rows and texts a row there are.

    Measured over the data sets of GLUE with the uncased WordPiece tokenizer of MiniLM; of SST-2, 8,000 rows are made.
    """

    name: str
    num_texts: int
    num_train: int
    num_validation: int
    train_lengths: tuple[int, ...]
    validation_lengths: tuple[int, ...]


_QUANTILES = (0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1)
MRPC = Shape(
    "MRPC", 2, 3668, 408, (19, 27, 32, 36, 44, 53, 62, 70, 74, 83, 103), (26, 29, 32, 37, 44, 53, 63, 70, 74, 81, 86)
)
SST2 = Shape("SST-2", 1, 8000, 872, (3, 3, 4, 4, 6, 10, 18, 27, 33, 44, 66), (4, 7, 10, 12, 17, 24, 32, 40, 44, 51, 55))


def write_shape(shape: Shape, folder: Path) -> None:
    """Write the train and the validation split of a shape as csv files."""
    generator = np.random.default_rng(0)
    for split, count, lengths in (
        ("train", shape.num_train, shape.train_lengths),
        ("validation", shape.num_validation, shape.validation_lengths),
    ):
        drawn = np.interp(generator.random(count), _QUANTILES, lengths).round().astype(int)
        with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*(f"text{number}" for number in range(shape.num_texts)), "label"])
            for length in drawn:
                words = generator.choice(_WORDS, max(1, length - _SPECIAL_TOKENS[shape.num_texts]))
                texts = [" ".join(part) for part in np.array_split(words, shape.num_texts)]
                writer.writerow([*texts, generator.integers(2)])

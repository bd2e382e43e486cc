"""From texts to token ids: one place for truncation, counting, and dropping what the model does not take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# Texts with at most this many characters a token of `max_length` go to the tokenizer whole.
_CHARACTERS_PER_TOKEN = 16
# A longer text keeps this many tokens beyond max_length, so that the cut never touches a token that stays.
_SPARE_TOKENS = 64


@dataclass(frozen=True)
class Tokenization:
    """A tokenizer with its limits.

    max_length: most tokens a feature, special tokens included.
    accepts: the argument names of the model's forward; columns it does not take are dropped.
    """

    tokenizer: Any
    max_length: int
    accepts: frozenset[str]

    def __call__(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None
    ) -> tuple[dict[str, list[list[int]]], list[bool]]:
        """Encode N texts, or N pairs of texts, into one feature each.

        Returns the model's input columns (N lists of token numbers each; the attention mask is left to the
        collation, which knows it from the lengths) and whether each text was truncated.
        """
        bounded = [self._bounded(text) for text in texts]
        bounded_pairs = None if pairs is None else [self._bounded(text) for text in pairs]
        encoded = self.tokenizer(
            bounded, bounded_pairs, truncation=True, max_length=self.max_length, return_attention_mask=False
        )
        truncated = [bool(encoding.overflowing) for encoding in encoded.encodings]
        return {name: ids for name, ids in encoded.items() if name in self.accepts}, truncated

    def _bounded(self, text: str) -> str:
        """Cut what could never survive truncation off an enormous text.

        The tokenizers library keeps everything that truncation removes, and for pairs every combination of
        the removed pieces: two texts of a million characters take more than 24 GiB. The cut is made at white
        space behind more tokens than fit, so the tokens that stay are the same.
        """
        window = _CHARACTERS_PER_TOKEN * self.max_length
        while len(text) > window:
            head = text[:window]
            offsets = self.tokenizer.backend_tokenizer.encode(head, add_special_tokens=False).offsets
            if len(offsets) > self.max_length + _SPARE_TOKENS:
                end = offsets[self.max_length + _SPARE_TOKENS - 1][1]
                space = next((at for at in range(end, window) if head[at].isspace()), end)
                return head[:space]
            window *= 2
        return text

"""From texts to token ids: one place for truncation, counting, and dropping what the model does not take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# Texts with at most this many characters a token of `max_length` go to the tokenizer whole.
_CHARACTERS_PER_TOKEN = 16
# Pairs less: the tokenizer combines every piece that it cuts off the one with every piece of the other.
_CHARACTERS_PER_TOKEN_OF_PAIRS = 2
# A longer text keeps this many tokens beyond max_length, so that the cut never touches a token that stays.
_SPARE_TOKENS = 128


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

        The tokenizers library keeps everything that truncation removes, and for pairs every combination of
        the removed pieces: two texts of a million characters take more than 24 GiB. So what could never
        survive truncation is cut off enormous texts first; the tokens that stay are the same.
        """
        # The limits of the last call, or of tokenizer.json, would hide how long a text is.
        self.tokenizer.backend_tokenizer.no_truncation()
        self.tokenizer.backend_tokenizer.no_padding()
        if pairs is None:
            bounded: tuple[list[str], ...] = ([self._bounded_text(text) for text in texts],)
        else:
            both = [self._bounded_pair(*pair) for pair in zip(texts, pairs, strict=True)]
            bounded = [first for first, _ in both], [second for _, second in both]
        encoded = self.tokenizer(*bounded, truncation=True, max_length=self.max_length, return_attention_mask=False)
        truncated = [bool(encoding.overflowing) for encoding in encoded.encodings]
        return {name: ids for name, ids in encoded.items() if name in self.accepts}, truncated

    def _bounded_text(self, text: str) -> str:
        if len(text) <= _CHARACTERS_PER_TOKEN * self.max_length:
            return text
        return self._cut(text, self.max_length + _SPARE_TOKENS)

    def _bounded_pair(self, first: str, second: str) -> tuple[str, str]:
        if max(len(first), len(second)) <= _CHARACTERS_PER_TOKEN_OF_PAIRS * self.max_length:
            return first, second
        # An odd token goes to the longer text, or to the second of equals: it must stay the longer.
        first_is_longer = len(self._encode(first)) > len(self._encode(second))
        shorter, longer = self.max_length + _SPARE_TOKENS, self.max_length + 3 * _SPARE_TOKENS
        lengths = (longer, shorter) if first_is_longer else (shorter, longer)
        return self._cut(first, lengths[0]), self._cut(second, lengths[1])

    def _cut(self, text: str, num_tokens: int) -> str:
        """Keep at least this many tokens of a text, at the side that truncation keeps, and whole words."""
        keeps_end = self.tokenizer.truncation_side == "left"
        window = _CHARACTERS_PER_TOKEN * self.max_length
        while True:
            part = text[-window:] if keeps_end else text[:window]
            encoding = self._encode(part)
            if len(encoding) > num_tokens:
                break
            if len(part) == len(text):
                return text
            window *= 2
        offsets = encoding.offsets
        if keeps_end:
            start = offsets[-num_tokens][0]
            return part[next((at for at in range(start, 0, -1) if part[at - 1].isspace()), start) :]
        end = offsets[num_tokens - 1][1]
        return part[: next((at for at in range(end, len(part)) if part[at].isspace()), end)]

    def _encode(self, text: str) -> Any:
        return self.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)

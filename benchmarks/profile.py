"""Share of each kind of operation in the time of a training step: one thread of a CPU, Beauty."""

from __future__ import annotations

import argparse

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.common import require_beauty, save
from benchmarks.training import SEQUENCES, trainer, training_steps
from maskgr_cli import console
from maskgr_cli.allocator import keep_freed_memory
from pipelines import artifacts

KINDS = {  # kind → names of its operations
    "matrix products": {"mm", "addmm", "bmm", "baddbmm", "mv", "dot"},
    "softmax over items or codes, its loss": {
        "_log_softmax",
        "_log_softmax_backward_data",
        "nll_loss_forward",
        "nll_loss_backward",
    },
    "softmax of attention": {"_softmax", "_softmax_backward_data"},
    "normalization": {"native_layer_norm", "native_layer_norm_backward"},
    "activation": {"gelu", "gelu_backward"},
    "embeddings": {
        "_embedding_bag",
        "_embedding_bag_dense_backward",
        "embedding_dense_backward",
        "index_select",
        "index",
        "sort",
    },
    "copies, conversions, filling": {
        "copy_",
        "fill_",
        "cat",
        "index_copy",
        "_index_put_impl_",
        "masked_fill_",
        "clone",
    },
}
REST, BETWEEN = "other operations", "between operations (Python, dispatch)"


def kind_of(event: str) -> str:
    """Return the kind of a profiled event."""
    operation = event.removeprefix("aten::")
    other = REST if event.startswith("aten::") else BETWEEN
    return next((kind for kind, names in KINDS.items() if operation in names), other)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="small", help="preset of maskgr")
    parser.add_argument(
        "--steps", type=int, default=60, help="number of profiled steps, after as many that warm up"
    )
    parser.add_argument(
        "--save", action="store_true", help="write the figures to benchmarks/results/profile-PRESET.json"
    )
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    require_beauty()
    settings = {"batch_size": SEQUENCES} if options.preset == "paper" else {}
    work = training_steps(trainer(options.preset, **settings))
    for _ in range(options.steps):
        work()
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(options.steps):
            with torch.profiler.record_function("step"):
                work()
    events = profiled.key_averages()
    times = {event.key: event.self_cpu_time_total / 1000 / options.steps for event in events}  # ms
    total = next(event.cpu_time_total for event in events if event.key == "step") / 1000 / options.steps
    kinds = dict.fromkeys((*KINDS, REST, BETWEEN), 0.0)
    for name, ms in times.items():
        kinds[kind_of(name)] += ms
    rows = [(kind, f"{ms:.1f}", f"{100 * ms / total:.1f}") for kind, ms in (*kinds.items(), ("all", total))]
    console.table(f"A training step, preset {options.preset}", ["kind", "ms", "%"], rows, artifacts.machine())
    if options.save:
        save(f"profile-{options.preset}", {"unit": "ms a step", "kinds": kinds, "step": total})


if __name__ == "__main__":
    main()

"""Commands of the program by name. A command's module is imported only where the command is used."""

from __future__ import annotations

# Name of a command, in the order of the pipeline → its module in this package, and the line about it in
# `maskgr --help`, with which the docstring of the command begins. The function `register` of the module adds
# the command to a Typer app.
COMMANDS = {
    "download": ("download", "Download a public data set and turn it into user sequences."),
    "import": ("import_", "Make a data set of your own interactions and items."),
    "data": ("data", "Exchange data sets with other programs, and remove users."),
    "embed": (
        "embed",
        "Turn items into embeddings: from their texts, their interactions or vectors of another program.",
    ),
    "tokenize": ("tokenize", "Turn item embeddings into semantic IDs and print their quality report."),
    "presets": (
        "presets",
        "List all options that the training of a model reads, with their values in each preset.",
    ),
    "train": ("train", "Train a model. Missing semantic IDs are made first."),
    "tune": ("tune", "Search for the best hyperparameters on the validation users."),
    "ensemble": (
        "ensemble",
        "Make a committee of trained runs, whose distribution is the geometric mean of theirs.",
    ),
    "eval": ("eval", "Decode the next item of every user, print Recall and NDCG, and compare runs."),
    "recommend": (
        "recommend",
        "Recommend items to a user, to a history, to the users of a file, or to everyone.",
    ),
    "items": ("items", "List the items of a data set, show them, find similar ones, and add new ones."),
    "serve": ("serve", "Serve the recommendations of a run or bundle over HTTP."),
    "export": (
        "export",
        "Export a trained run into a folder that other machines and programs load, and upload it.",
    ),
    "ablate": ("ablate", "Train and evaluate every combination of options, and write a report."),
    "report": ("ablate", "Join the reports of all grids of the workspace into one page."),
    "show": (
        "show",
        "List data sets, embeddings, SIDs and runs with their main metrics, and why they are stale.",
    ),
    "rm": ("rm", "Remove runs, data sets, embeddings, SIDs, evaluations, reports and studies."),
    "rename": ("rename", "Rename a run or a data set, with everything that refers to it by name."),
    "doctor": (
        "doctor",
        "Check packages, devices and the workspace, and print the command that mends each problem.",
    ),
}

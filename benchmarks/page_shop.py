"""A shop whose items are made up, with a run: what the picture of the page shows. No text comes from a data
set.
"""

from __future__ import annotations

import csv
import os
import random
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

THEMES = {
    "Tea": "teapot, kettle, tea strainer, matcha bowl, tea caddy, loose leaf tea",
    "Baking": "loaf tin, rolling pin, mixing bowl, cake stand, sugar sieve, bread knife",
    "Garden": "watering can, seed tray, hand trowel, plant labels, garden twine, pruning shears",
    "Bath": "shampoo bar, bath towel, soap dish, body brush, hand cream, lip balm",
    "Hiking": "rucksack, water bottle, trail map case, camping stove, head lamp, wool socks",
    "Writing": "notebook, fountain pen, ink bottle, pencil case, desk lamp, letter paper",
    "Music": "guitar strings, music stand, metronome, tuning fork, piano lamp, drum sticks",
    "Bicycle": "bicycle bell, tire pump, chain oil, saddle bag, rain cape, front light",
}
KINDS = ["Small {} in blue", "Classic {}", "Large {} in green", "{} for travel", "{} by Harbor & Hill"]
USERS = 800
ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # products this small gain nothing from two
SWITCH = 0.1  # probability that a user goes on to another theme


def build(folder: Path) -> str:
    """Make the shop in a workspace and train a run on it; return the run's name."""
    draw = random.Random(0)
    items = [
        (f"{theme[:3].upper()}{place}{kind}", pattern.format(thing).capitalize(), theme, price)
        for theme, things in THEMES.items()
        for place, thing in enumerate(things.split(", "))
        for kind, pattern in enumerate(KINDS)
        for price in [round(draw.uniform(4, 60), 2)]
    ]
    by_theme = {theme: [row[0] for row in items if row[2] == theme] for theme in THEMES}
    taken = [(user, item, time) for user in range(USERS) for time, item in enumerate(_taken(draw, by_theme))]
    files = folder / "items.csv", folder / "interactions.csv"
    _write(files[0], ["item_id", "title", "category", "price"], items)
    _write(files[1], ["user_id", "item_id", "timestamp"], taken)
    for line in (
        [
            "import",
            "shop",
            "--interactions",
            files[1],
            "--items",
            files[0],
            "--text-columns",
            "title,category",
        ],
        ["embed", "--encoder", "lsa"],
        ["tokenize", "--sids", "3", "--codebook", "24"],
        ["train", "--sids", "3", "--codebook", "24", "--preset", "smoke", "--steps", "300", "--name", "shop"],
    ):
        command = [sys.executable, "-m", "maskgr_cli", *map(str, line), "--workspace", str(folder)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **ONE_THREAD})
    return "shop"


def _taken(draw: random.Random, by_theme: dict[str, list[str]]) -> Iterable[str]:
    """Draw the items of a user: things of one theme, now and then of another one."""
    theme = draw.choice(list(by_theme))
    for _ in range(draw.randint(5, 12)):
        if draw.random() < SWITCH:
            theme = draw.choice(list(by_theme))
        yield draw.choice(by_theme[theme])


def _write(path: Path, columns: list[str], rows: Iterable[Iterable[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])

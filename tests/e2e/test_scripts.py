"""Titles of many scripts, of one word and of very many, from import to recommendations."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

TITLES = (
    "经典红色连衣裙夏季新款",
    "夏の赤いワンピース綿",
    "เดรสสีแดงสำหรับฤดูร้อน",
    "فستان أحمر صيفي قطن",
    "गर्मियों की लाल सूती पोशाक",
    "Červené letní šaty 👗🌞",
    "tea",
    "word " * 20_000,
    "[red]bold[/red] <script>alert(1)</script> \u202edesrever",
    'a\ttab, a "quote" and a comma',
    "\x1b]0;owned\x07 \x9b2J \u200fmark \u2066isolate",
    "$x$ | a [link](javascript:alert(1)) \\textbf{b}",
)
OBEYED = {"\x1b", "\x07", "\x9b", "\u200f", "\u202e", "\u2066"}  # by a terminal


def test_titles_of_every_script_go_from_import_to_recommendations(
    maskgr: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    items = [f"{title} {number // len(TITLES)}" for number, title in enumerate(TITLES * 4)]
    with open(tmp_path / "items.jsonl", "w", encoding="utf-8") as file:
        for number, title in enumerate(items):
            file.write(json.dumps({"item_id": f"i{number}", "title": title}, ensure_ascii=False) + "\n")
    rows = [f"u{user},i{(user + step) % len(items)},{step}" for user in range(60) for step in range(5)]
    (tmp_path / "log.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]))
    imported = maskgr("import", "shop", "--interactions", "log.csv", "--items", "items.jsonl")
    assert imported.returncode == 0, imported.stderr
    trained = maskgr("train", "--preset", "smoke", "--steps", 2, "--sids", 2, "--codebook", 8, "--name", "r")
    assert trained.returncode == 0, trained.stderr
    done = maskgr("recommend", "r", "--user", "u3", "-k", len(items), "--format", "json")
    titles = {row["item_id"]: row["title"] for row in json.loads(done.stdout)}
    assert titles == {f"i{number}": " ".join(title.split()) for number, title in enumerate(items)}
    commands = (
        ("recommend", "r", "--user", "u3", "-k", len(items), "--explain"),
        ("recommend", "r", "--like", "owned"),  # several titles, which are listed
        ("items", "list", "--limit", 0),
        ("items", "show", "i8", "i10"),
        ("items", "similar", "i10", "--run", "r", "-k", 40),
    )
    for command in commands:
        shown = maskgr(*command)
        assert shown.returncode == (2 if "--like" in command else 0), shown.stderr
        assert not OBEYED & {*shown.stdout, *shown.stderr}, command
        assert r"\x1b]0;owned\x07 \x9b2J \u200fmark \u2066isolate" in shown.stdout + shown.stderr, command
        if command[0] == "recommend" and "--like" not in command:
            assert "[red]bold[/red] <script>alert(1)</script> \\u202edesrever" in shown.stdout
            assert "经典红色连衣裙夏季新款" in shown.stdout
    latex = maskgr("items", "list", "--like", "javascript", "--format", "latex").stdout
    assert r"\$x\$ \textbar{} a {[}link{]}(javascript:alert(1)) \textbackslash{}textbf\{b\}" in latex

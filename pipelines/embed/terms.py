"""Terms of item texts for LSA: words, and runs of characters where words are not separated by spaces."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

WORDS, SCRIPTS, CHARACTERS = "words", "scripts", "characters"  # kinds of terms
# Letters of scripts that do not separate words: Thai, Lao, Myanmar, Khmer, Kana, Han.
LETTERS = (
    "\u0e00-\u0eff\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"
    "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
)
UNSEPARATED = re.compile(f"[{LETTERS}]+")
WORD = re.compile(r"\w+")
SPACE = re.compile(r"(?<!\.)\s")  # a space inside a field; fields are joined by a period and a space
SPACELESS = 0.5  # share of texts without a space from which all words are cut into runs of characters
RUNS, PIECES = (1, 3), (2, 4)  # characters in a row: of unseparated scripts, and inside words
DESCRIPTIONS = {
    WORDS: "words and word pairs",
    SCRIPTS: f"words, word pairs, and {RUNS[0]} to {RUNS[1]} characters in a row of scripts without spaces",
    CHARACTERS: f"{PIECES[0]} to {PIECES[1]} characters in a row",
}


@dataclass(frozen=True)
class Terms:
    """Kind of the terms of a catalogue.

    Attributes:
        kind: `WORDS`, `SCRIPTS` (words, and runs of characters where a script does not separate words) or
            `CHARACTERS` (runs of characters inside all words).
        reason: clause that says why, for a message; empty for words.
    """

    kind: str
    reason: str = ""

    @staticmethod
    def of_texts(texts: Sequence[str]) -> Terms:
        """Return the kind of terms that suits the texts.

        Args:
            texts: N ≥ 1 texts.
        """
        unseparated = sum(bool(UNSEPARATED.search(text)) for text in texts)
        spaceless = sum(not SPACE.search(text) and not UNSEPARATED.search(text) for text in texts)
        if spaceless >= SPACELESS * len(texts):
            return Terms(CHARACTERS, f"{spaceless / len(texts):.0%} of the texts have no space")
        if unseparated:
            return Terms(SCRIPTS, f"{unseparated:,} of {len(texts):,} texts have letters of such scripts")
        return Terms(WORDS)

    def vectorizer_options(self) -> dict[str, Any]:
        """Return the arguments of scikit-learn's vectorizer that make these terms."""
        words = {"ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b", "strip_accents": "unicode"}
        return words if self.kind == WORDS else {"analyzer": self._analyzer(words)}

    def _analyzer(self, words: dict[str, Any]) -> Callable[[str], list[str]]:
        """Return a function from a text to its terms, put together from scikit-learn's analyzers."""
        from sklearn.feature_extraction.text import CountVectorizer

        if self.kind == CHARACTERS:
            pieces = CountVectorizer(analyzer="char_wb", ngram_range=PIECES).build_analyzer()
            return lambda text: pieces(" ".join(WORD.findall(_folded(text))))
        separated = CountVectorizer(**words).build_analyzer()
        runs = CountVectorizer(analyzer="char", ngram_range=RUNS).build_analyzer()

        def analyze(text: str) -> list[str]:
            unseparated = [term for run in UNSEPARATED.findall(text) for term in runs(_folded(run))]
            return separated(UNSEPARATED.sub(" ", text)) + unseparated

        return analyze


def _folded(text: str) -> str:
    """Return a text with one form of each character: full-width letters become plain ones, for example."""
    return unicodedata.normalize("NFKC", text)

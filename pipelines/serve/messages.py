"""Bodies of requests and answers. The OpenAPI document is made from these classes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pipelines.decode.config import UNMASKINGS
from pipelines.serve.config import LONGEST_FILTER, LONGEST_HISTORY, LONGEST_TEXT, MOST

Ids = list[str]


class Ask(BaseModel):
    """A request for recommendations: for a history or a user, exactly one of them."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    history: Ids | None = Field(
        default=None,
        max_length=LONGEST_HISTORY,
        description="Item ids, oldest first. Unknown ones are left out.",
    )
    user: str | None = Field(
        default=None, max_length=LONGEST_TEXT, description="Id of a user of the data set."
    )
    k: int = Field(default=10, ge=1, le=MOST, description="Number of recommendations.")
    exclude_seen: bool = Field(default=False, description="Recommend no item of the history.")
    where: str | None = Field(
        default=None, max_length=LONGEST_TEXT, description="Condition on the columns of the items."
    )
    allow: Ids | None = Field(
        default=None, max_length=LONGEST_FILTER, description="Ids of the only items that qualify."
    )
    deny: Ids | None = Field(
        default=None, max_length=LONGEST_FILTER, description="Ids of items that do not qualify."
    )
    order: str | None = Field(
        default=None, description=f"Order of unmasking: {', '.join(UNMASKINGS)}; null for the model's own."
    )
    nfe: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="Number of function evaluations; null for the model's own.",
    )
    beams: int | None = Field(default=None, ge=1, le=MOST, description="Number of beams; null for 20.")
    explain: bool = Field(
        default=False, description="Show how the digits of each recommendation were revealed."
    )


class Digit(BaseModel):
    """A digit of a recommended item, as it was revealed."""

    evaluation: int = Field(description="Function evaluation that revealed the digit, from 1.")
    digit: int = Field(description="Position of the digit, from 1.")
    code: int
    probability: float = Field(description="Probability of the code at that time.")
    words: list[str] = Field(description="Words that are typical of the titles with that code.")
    shared: list[str] = Field(description="Ids of items of the history with that code.")


class Recommendation(BaseModel):
    """A recommended item."""

    rank: int
    position: int | None = Field(
        default=None, description="Place in a list of items that are predicted together."
    )
    item_id: str
    title: str
    score: float
    explanation: list[Digit] | None = None


class Answer(BaseModel):
    """Recommendations to a history."""

    run: str
    source: Literal["model", "popularity"]
    unknown: list[str] = Field(description="Ids of the history that are no items.")
    recommendations: list[Recommendation]
    milliseconds: float = Field(description="Time from the arrival of the request to the answer.")


class FoundItem(BaseModel):
    """An item of a search."""

    item_id: str
    title: str
    interactions: int


class FoundItems(BaseModel):
    """Items whose titles contain a text, those with most interactions first."""

    total: int = Field(description="Number of items that were found.")
    items: list[FoundItem] = Field(description="The first ones.")


class ItemFacts(BaseModel):
    """An item."""

    item_id: str
    title: str
    interactions: int
    sid: list[int] | None = Field(description="Semantic ID; null where the model has none.")
    words: list[list[str]] | None = Field(
        description="For each digit words that are typical of the titles with its code; null without digits."
    )
    columns: dict[str, Any] = Field(description="Columns as they were imported.")


class SimilarItem(BaseModel):
    """An item that is similar to another one."""

    rank: int
    item_id: str
    title: str
    score: float


class SimilarItems(BaseModel):
    """Items that are similar to an item, most similar first."""

    item_id: str
    title: str
    by: str
    items: list[SimilarItem]


class Setting(BaseModel):
    """Settings of decoding that apply where a request names none."""

    order: str | None
    nfe: int
    beams: int


class Column(BaseModel):
    """A column of the items that a condition may name."""

    name: str
    kind: str = Field(description="number, text, boolean or date")
    list: bool = Field(description="True if a value is a list.")


class RunFacts(BaseModel):
    """The run that is served."""

    run: str
    model: str
    dataset: str
    items: int
    users: int | None
    max_items: int = Field(description="Number of items of a history that the model sees.")
    horizon: int = Field(description="Number of items that are recommended together.")
    digits: int | None = Field(description="Digits of a semantic ID; null where the model has none.")
    codes: int | None = Field(description="Codes of a digit; null where the model has none.")
    orders: list[str] = Field(description="Orders of unmasking that the model can follow.")
    similarities: list[str] = Field(description="Kinds of similarity that /similar may compare by.")
    decoding: Setting
    title_column: str | None
    columns: list[Column]
    max_k: int = Field(default=MOST, description="Largest number of recommendations.")


class Health(BaseModel):
    """The state of the service."""

    status: str


class Fault(BaseModel):
    """What is wrong with a part of a request."""

    loc: list[str | int] = Field(description='Place, e.g. ["body", "where"].')
    msg: str
    type: str


class Faults(BaseModel):
    """What is wrong with a request."""

    detail: list[Fault]


class Refusal(BaseModel):
    """Why a request was not answered."""

    detail: str

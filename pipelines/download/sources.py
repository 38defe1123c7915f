"""Public data sets: an entry of data for each, with its files, their form and its terms.

Downloads from these sites have not been tested, because they could not be reached during development. The
tests fetch files of the same formats from a local server. `--mirror` and `--from` replace a site that has
moved.
"""

from __future__ import annotations

import difflib

from pipelines.download.amazon import AMAZON, UCSD, UCSD_BEFORE
from pipelines.download.description import PIP, Column, Edition, File, Source, Table, offered
from pipelines.errors import UserError
from pipelines.options import quoted

GROUPLENS = (
    "https://files.grouplens.org/datasets/movielens",
    "http://files.grouplens.org/datasets/movielens",
)
SNAP = ("https://snap.stanford.edu/data", "http://snap.stanford.edu/data")
STEAM_FOLDERS = ("https://cseweb.ucsd.edu/~wckang", f"{UCSD}/steam", f"{UCSD_BEFORE}/steam")

MOVIELENS_TERMS = (
    "Research use is allowed. Commercial use needs the permission of GroupLens, University of Minnesota."
)
NOT_PASSED_ON = f"{MOVIELENS_TERMS} So does passing the files on."
PASSED_ON = f"{MOVIELENS_TERMS} The files may be passed on under the same conditions."
HARPER = "F. M. Harper and J. A. Konstan, The MovieLens Datasets, ACM TiiS 5(4), 2015"
STEAM = (
    "W.-C. Kang and J. McAuley, Self-Attentive Sequential Recommendation, ICDM 2018; M. Wan and J. McAuley, "
    "Item Recommendation on Monotonic Behavior Chains, RecSys 2018; A. Pathak, K. Gupta and J. McAuley, "
    "Generating and Personalizing Bundle Recommendations on Steam, SIGIR 2017"
)
STEAM_TERMS = (
    "Offered for research by the group of Julian McAuley, UC San Diego. No license is known to maskgr."
)


def _movielens(name: str, interactions: Table | None = None, items: Table | None = None) -> Edition:
    """Return the edition of MovieLens that GroupLens publishes (Harper and Konstan, 2015)."""
    files = (offered(f"{name}.zip", *GROUPLENS),)
    return Edition(name, files, interactions, items, ("title", "year", "genres") if items else ())


def _movielens_csv(name: str) -> Edition:
    """Return the edition of MovieLens as separated values in a zip archive."""
    ratings = {
        "user_id": Column("id", "userId"),
        "item_id": Column("id", "movieId"),
        "rating": Column("number", "rating"),
        "timestamp": Column("time", "timestamp"),
    }
    movies = {
        "item_id": Column("id", "movieId"),
        "title": Column("titled", "title"),
        "year": Column("year", "title"),
        "genres": Column("barred", "genres"),
    }
    return _movielens(
        name,
        Table(ratings, form="csv", member=f"{name}/ratings.csv"),
        Table(movies, form="csv", member=f"{name}/movies.csv"),
    )


def _steam(reviews: str) -> Edition:
    """Return the edition of the Steam reviews whose file of reviews has a name."""
    return Edition(
        "steam",
        (offered(reviews, *STEAM_FOLDERS), STEAM_GAMES_FILE),
        Table(
            {
                "user_id": Column("id", "username"),
                "item_id": Column("id", "product_id"),
                "timestamp": Column("date", "date"),
            }
        ),
        STEAM_GAMES,
        STEAM_TEXT,
    )


STEAM_GAMES_FILE = offered("steam_games.json.gz", *STEAM_FOLDERS)
STEAM_TEXT = ("title", "genres", "tags", "specs", "developer", "price")
STEAM_GAMES = Table(
    {
        "item_id": Column("id", "id"),
        "title": Column("text", "title", "app_name"),
        "genres": Column("words", "genres"),
        "tags": Column("words", "tags"),
        "specs": Column("words", "specs"),
        "developer": Column("text", "developer"),
        "price": Column("price", "price"),
        "price_usd": Column("dollars", "price"),
    },
    gaps=True,
)
YELP_REVIEWS = {
    "user_id": Column("id", "user_id"),
    "item_id": Column("id", "business_id"),
    "timestamp": Column("date", "date"),
    "rating": Column("number", "stars"),
}
YELP_BUSINESSES = {
    "item_id": Column("id", "business_id"),
    "name": Column("text", "name"),
    "categories": Column("text", "categories"),
    "city": Column("text", "city"),
    "state": Column("text", "state"),
}
YELP_TEXT = ("name", "categories", "city", "state")
YELP = "yelp_academic_dataset_{}.json"  # names of its files

MOST_NEAR = 5  # names that a message offers

SOURCES = (
    *AMAZON,
    Source(
        "ml-100k",
        "MovieLens, 100,000 ratings",
        (
            _movielens("ml-100k"),
            Edition("recbole", (File("recbole-1.2.1-py3-none-any.whl", (f"{PIP}recbole==1.2.1",)),)),
        ),
        NOT_PASSED_ON,
        HARPER,
    ),
    Source("ml-1m", "MovieLens, 1 million ratings", (_movielens("ml-1m"),), NOT_PASSED_ON, HARPER),
    Source("ml-20m", "MovieLens, 20 million ratings", (_movielens_csv("ml-20m"),), PASSED_ON, HARPER),
    Source("ml-32m", "MovieLens, 32 million ratings", (_movielens_csv("ml-32m"),), PASSED_ON, HARPER),
    Source(
        "yelp",
        "Yelp Open Dataset, reviews of businesses",
        (
            Edition(
                "yelp",
                (File("yelp_dataset.tar"),),
                Table(YELP_REVIEWS, member=YELP.format("review")),
                Table(YELP_BUSINESSES, member=YELP.format("business")),
                YELP_TEXT,
            ),
            Edition(
                "yelp",
                (File(YELP.format("review")), File(YELP.format("business"))),
                Table(YELP_REVIEWS),
                Table(YELP_BUSINESSES),
                YELP_TEXT,
            ),
        ),
        "Educational and academic use under the terms of Yelp, which each user accepts on its page. Passing "
        "the files on and commercial use are not allowed.",
        "Yelp, Yelp Open Dataset",
        page="https://business.yelp.com/data/resources/open-dataset/",
    ),
    Source(
        "steam",
        "Steam, reviews of games",
        (_steam("steam_reviews.json.gz"), _steam("steam_new.json.gz")),
        STEAM_TERMS,
        STEAM,
    ),
    Source(
        "steam-australia",
        "Steam, games that Australian users own; without times, in the order of the file",
        (
            Edition(
                "steam-australia",
                (
                    offered("australian_users_items.json.gz", *STEAM_FOLDERS[1:]),
                    STEAM_GAMES_FILE,
                ),
                Table(
                    {"user_id": Column("id", "user_id"), "item_id": Column("id", "item_id")}, nested="items"
                ),
                STEAM_GAMES,
                STEAM_TEXT,
            ),
        ),
        STEAM_TERMS,
        STEAM,
    ),
    Source(
        "gowalla",
        "Gowalla, check-ins at locations; without texts",
        (
            Edition(
                "gowalla",
                (offered("loc-gowalla_totalCheckins.txt.gz", *SNAP),),
                Table(
                    {
                        "user_id": Column("id", "user"),
                        "item_id": Column("id", "location"),
                        "timestamp": Column("date", "time"),
                    },
                    form="csv",
                    names=("user", "time", "latitude", "longitude", "location"),
                    separator="\t",
                ),
            ),
        ),
        "Offered by the Stanford Network Analysis Project (SNAP). No license is known to maskgr.",
        "E. Cho, S. A. Myers and J. Leskovec, Friendship and Mobility, KDD 2011",
    ),
)
DATASETS: dict[str, Source] = {
    name: data_set for source in SOURCES for name, data_set in source.data_sets().items()
}


def public(name: str) -> Source:
    """Return the entry of a public data set.

    Raises:
        UserError: there is no public data set of that name.
    """
    if name in DATASETS:
        return DATASETS[name]
    wanted, known = name.lower(), {known.lower(): known for known in DATASETS}
    near = [lower for lower in known if wanted in lower] or difflib.get_close_matches(wanted, known)
    hint = f"Near it: {', '.join(known[lower] for lower in near[:MOST_NEAR])}. " if near else ""
    raise UserError(
        f"No public data set {quoted(name)} is known. {hint}All are named by: maskgr download --list. "
        "For your own: maskgr import NAME --interactions FILE."
    )

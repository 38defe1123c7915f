"""Files of public data sets in their published formats, with the users and items of `world`."""

from __future__ import annotations

import gzip

from benchmarks.fuzz import world

CHECK_INS = "loc-gowalla_totalCheckins.txt.gz"


def amazon_2014() -> dict[str, bytes]:
    """Return Amazon reviews (JSON) and products (Python literals) of 2014."""
    reviews: list[dict[str, object]] = [
        {"reviewerID": user, "asin": item, "overall": float(stars), "unixReviewTime": time}
        for user, item, time, stars in world.ROWS
    ]
    products = [
        {
            "asin": e["item_id"],
            "title": "Soap &amp; more",
            "price": e["price"],
            "categories": [["Beauty", "Bath"]],
        }
        for e in world.items()
    ]
    return {
        "reviews_Beauty_5.json.gz": _packed(world.json_lines(reviews)),
        "meta_Beauty.json.gz": _packed("\n".join(map(repr, products)).encode()),
    }


def amazon_2023() -> dict[str, bytes]:
    """Return Amazon ratings (CSV) and products (JSON) of 2023."""
    ratings = "".join(f"{user},{item},{stars}.0,{time}000\n" for user, item, time, stars in world.ROWS)
    products: list[dict[str, object]] = [
        {
            "parent_asin": e["item_id"],
            "title": "Soap &amp; more",
            "price": e["price"],
            "categories": ["Beauty", "Bath"],
            "features": [],
            "description": ["It cleans."],
        }
        for e in world.items()
    ]
    return {
        "Books.csv.gz": _packed(b"user_id,parent_asin,rating,timestamp\n" + ratings.encode()),
        "meta_Books.jsonl.gz": _packed(world.json_lines(products)),
    }


def ml_20m() -> dict[str, bytes]:
    """Return ml-20m.zip."""
    movies = "".join(f'{i:02},"Amélie {i}, The (1995)",Comedy|War\n' for i in range(world.ITEMS))
    members = {
        "ml-20m/ratings.csv": "userId,movieId,rating,timestamp\n" + world.ratings(","),
        "ml-20m/movies.csv": "movieId,title,genres\n" + movies,
    }
    return {"ml-20m.zip": world.archive(members, "utf-8")}


def yelp() -> dict[str, bytes]:
    """Return the reviews and the businesses of Yelp."""
    reviews: list[dict[str, object]] = [
        {
            "user_id": user,
            "business_id": item,
            "stars": float(stars),
            "date": f"2018-07-0{1 + time % 9} 22:09:11",
        }
        for user, item, time, stars in world.ROWS
    ]
    businesses: list[dict[str, object]] = [
        {"business_id": e["item_id"], "name": "Café", "city": "Tucson", "state": "AZ", "categories": "A, B"}
        for e in world.items()
    ]
    return {
        "yelp_academic_dataset_review.json": world.json_lines(reviews),
        "yelp_academic_dataset_business.json": world.json_lines(businesses),
    }


def steam() -> dict[str, bytes]:
    """Return the reviews and the games of Steam, as Python literals."""
    reviews = [
        {"username": user, "product_id": item, "date": f"2017-12-1{time % 9}", "text": "It's good"}
        for user, item, time, _ in world.ROWS
    ]
    games = [
        {"id": e["item_id"], "title": "Game", "genres": ["Action"], "price": 4.99} for e in world.items()
    ]
    return {
        "steam_reviews.json.gz": _packed("\n".join(map(repr, reviews)).encode()),
        "steam_games.json.gz": _packed("\n".join(map(repr, games)).encode()),
    }


def gowalla() -> dict[str, bytes]:
    """Return the check-ins of Gowalla."""
    rows = (
        f"{user}\t2010-10-1{time % 9}T23:55:27Z\t30.2\t-97.7\t{item}\n" for user, item, time, _ in world.ROWS
    )
    return {CHECK_INS: _packed("".join(rows).encode())}


def _packed(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)

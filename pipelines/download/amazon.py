"""The Amazon reviews of 2014, 2018 and 2023: files and tables of each category."""

from __future__ import annotations

from pipelines.download.description import Column, Edition, Source, Table, offered

UCSD = "https://mcauleylab.ucsd.edu/public_datasets/data"
UCSD_BEFORE = "https://datarepo.eng.ucsd.edu/mcauley_group/data"  # earlier address of the same files
SNAP = "snap.stanford.edu/data/amazon/productGraph/categoryFiles"
HUGGING_FACE = "https://huggingface.co/datasets/McAuley-Lab/Amazon-Reviews-2023/resolve/main"

TERMS = "Offered for research by the group of Julian McAuley, UC San Diego. No license is known to maskgr."
TEXT = ("title", "categories", "description", "price")  # paper, section 4.1
TEXT_2018 = ("title", "brand", "categories", "features", "description", "price")
TEXT_2023 = ("title", "categories", "features", "description", "price")

REVIEWS = Table(
    {
        "user_id": Column("id", "reviewerID"),
        "item_id": Column("id", "asin"),
        "timestamp": Column("time", "unixReviewTime"),
        "rating": Column("number", "overall"),
    }
)
PRODUCTS = Table(
    {
        "item_id": Column("id", "asin"),
        "title": Column("text", "title"),
        "categories": Column("words", "categories"),
        "description": Column("text", "description"),
        "price": Column("price", "price"),
        "price_usd": Column("dollars", "price"),
    }
)
PRODUCTS_2018 = Table(
    {
        "item_id": Column("id", "asin"),
        "title": Column("text", "title"),
        "brand": Column("text", "brand"),
        "categories": Column("words", "category"),
        "features": Column("words", "feature"),
        "description": Column("words", "description"),
        "price": Column("price", "price"),
        "price_usd": Column("dollars", "price"),
    }
)
COLUMNS_2023 = {
    "user_id": Column("id", "user_id"),
    "item_id": Column("id", "parent_asin"),
    "timestamp": Column("time", "timestamp"),
    "rating": Column("number", "rating"),
}
PRODUCTS_2023 = Table(
    {
        "item_id": Column("id", "parent_asin"),
        "title": Column("text", "title"),
        "categories": Column("words", "categories"),
        "features": Column("words", "features"),
        "description": Column("words", "description"),
        "price": Column("price", "price"),
        "price_usd": Column("dollars", "price"),
    }
)


def _of_2014(name: str, category: str) -> Source:
    folders = (f"https://{SNAP}", f"{UCSD}/amazon/categoryFiles", f"http://{SNAP}")
    names = (f"reviews_{category}_5.json.gz", f"meta_{category}.json.gz")
    files = tuple(offered(file, *folders) for file in names)
    return Source(
        name,
        f"Amazon reviews of 2014, {category}, 5-core",
        (Edition("amazon", files, REVIEWS, PRODUCTS, TEXT),),
        TERMS,
        "R. He and J. McAuley, Ups and Downs, WWW 2016; J. McAuley et al., Image-based Recommendations on "
        "Styles and Substitutes, SIGIR 2015",
    )


AMAZON = (
    _of_2014("beauty", "Beauty"),
    _of_2014("sports", "Sports_and_Outdoors"),
    _of_2014("toys", "Toys_and_Games"),
    Source(
        "amazon2018-CATEGORY",
        "Amazon reviews of 2018, 5-core",
        (
            Edition(
                "amazon2018",
                (
                    offered(
                        "CATEGORY_5.json.gz",
                        f"{UCSD}/amazon_v2/categoryFilesSmall",
                        f"{UCSD_BEFORE}/amazon_v2/categoryFilesSmall",
                        "https://jmcauley.ucsd.edu/data/amazon_v2/categoryFilesSmall",
                    ),
                    offered(
                        "meta_CATEGORY.json.gz",
                        f"{UCSD}/amazon_v2/metaFiles2",
                        f"{UCSD_BEFORE}/amazon_v2/metaFiles2",
                        "https://jmcauley.ucsd.edu/data/amazon_v2/metaFiles2",
                    ),
                ),
                REVIEWS,
                PRODUCTS_2018,
                TEXT_2018,
            ),
        ),
        TERMS,
        "J. Ni, J. Li and J. McAuley, Justifying Recommendations using Distantly-Labeled Reviews and "
        "Fine-Grained Aspects, EMNLP 2019",
        categories=(
            *("AMAZON_FASHION", "All_Beauty", "Appliances", "Arts_Crafts_and_Sewing", "Automotive", "Books"),
            *("CDs_and_Vinyl", "Cell_Phones_and_Accessories", "Clothing_Shoes_and_Jewelry", "Digital_Music"),
            *("Electronics", "Gift_Cards", "Grocery_and_Gourmet_Food", "Home_and_Kitchen"),
            *("Industrial_and_Scientific", "Kindle_Store", "Luxury_Beauty", "Magazine_Subscriptions"),
            *("Movies_and_TV", "Musical_Instruments", "Office_Products", "Patio_Lawn_and_Garden"),
            *("Pet_Supplies", "Prime_Pantry", "Software", "Sports_and_Outdoors"),
            *("Tools_and_Home_Improvement", "Toys_and_Games", "Video_Games"),
        ),
    ),
    Source(
        "amazon2023-CATEGORY",
        "Amazon reviews of 2023, 5-core",
        (
            Edition(
                "amazon2023",
                (
                    offered(
                        "CATEGORY.csv.gz",
                        f"{UCSD}/amazon_2023/benchmark/5core/rating_only",
                        f"{UCSD_BEFORE}/amazon_2023/benchmark/5core/rating_only",
                    ),
                    offered(
                        "meta_CATEGORY.jsonl.gz",
                        f"{UCSD}/amazon_2023/raw/meta_categories",
                        f"{UCSD_BEFORE}/amazon_2023/raw/meta_categories",
                    ),
                ),
                Table(COLUMNS_2023, form="csv"),
                PRODUCTS_2023,
                TEXT_2023,
            ),
            Edition(
                "amazon2023",
                (
                    offered("CATEGORY.csv", f"{HUGGING_FACE}/benchmark/5core/rating_only"),
                    offered("meta_CATEGORY.jsonl", f"{HUGGING_FACE}/raw/meta_categories"),
                ),
                Table(COLUMNS_2023, form="csv"),
                PRODUCTS_2023,
                TEXT_2023,
            ),
            Edition(  # all reviews
                "amazon2023-raw",
                (
                    offered(
                        "CATEGORY.jsonl.gz",
                        f"{UCSD}/amazon_2023/raw/review_categories",
                        f"{UCSD_BEFORE}/amazon_2023/raw/review_categories",
                    ),
                    offered(
                        "meta_CATEGORY.jsonl.gz",
                        f"{UCSD}/amazon_2023/raw/meta_categories",
                        f"{UCSD_BEFORE}/amazon_2023/raw/meta_categories",
                    ),
                ),
                Table(COLUMNS_2023),
                PRODUCTS_2023,
                TEXT_2023,
            ),
        ),
        TERMS,
        "Y. Hou et al., Bridging Language and Items for Retrieval and Recommendation, arXiv 2403.03952, 2024",
        categories=(
            *("All_Beauty", "Amazon_Fashion", "Appliances", "Arts_Crafts_and_Sewing", "Automotive"),
            *("Baby_Products", "Beauty_and_Personal_Care", "Books", "CDs_and_Vinyl"),
            *("Cell_Phones_and_Accessories", "Clothing_Shoes_and_Jewelry", "Digital_Music", "Electronics"),
            *("Gift_Cards", "Grocery_and_Gourmet_Food", "Handmade_Products", "Health_and_Household"),
            *("Health_and_Personal_Care", "Home_and_Kitchen", "Industrial_and_Scientific", "Kindle_Store"),
            *("Magazine_Subscriptions", "Movies_and_TV", "Musical_Instruments", "Office_Products"),
            *("Patio_Lawn_and_Garden", "Pet_Supplies", "Software", "Sports_and_Outdoors"),
            *("Subscription_Boxes", "Tools_and_Home_Improvement", "Toys_and_Games", "Unknown"),
            "Video_Games",
        ),
    ),
)

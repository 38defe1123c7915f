"""Write a folder of sequences with DuckDB, for `maskgr import NAME --sequences FOLDER --items FILE`.

DuckDB sorts and groups on disk where the memory does not suffice:

    pip install duckdb
    python sequences_duckdb.py "logs/*.parquet" FOLDER

The log has the columns user_id, item_id and timestamp. Users with fewer than three items are left out.
"""

from __future__ import annotations

import argparse

import duckdb

QUERY = """
COPY (
    SELECT
        user_id,
        list(item_id ORDER BY timestamp) AS item_ids,
        hash(user_id) % {buckets} AS bucket
    FROM '{log}'
    GROUP BY user_id
    HAVING count(*) >= 3
) TO '{folder}' (FORMAT parquet, PARTITION_BY (bucket), ROW_GROUP_SIZE 100000)
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("log", help="file or pattern of files: CSV or Parquet")
    parser.add_argument("folder", help="folder that is written")
    parser.add_argument("--buckets", type=int, default=64, help="folders of the users")
    parser.add_argument("--memory", default="4GB", help="memory that DuckDB uses")
    options = parser.parse_args()
    connection = duckdb.connect()
    connection.execute(f"SET memory_limit = '{options.memory}'")
    connection.execute(QUERY.format(buckets=options.buckets, log=options.log, folder=options.folder))


if __name__ == "__main__":
    main()

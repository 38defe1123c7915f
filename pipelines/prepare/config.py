"""Options of the preparation that `maskgr download` and `maskgr import` share. Light to import."""

from __future__ import annotations

from pipelines.options import SEED

COUNT = (0, SEED[1])  # bounds of a count

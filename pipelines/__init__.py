"""The stages of maskgr: a catalogue and a log of interactions become a trained, measured recommender.

Data flows down the list of rooms: download → embed → tokenize → train → evaluate. A stage reads and writes
artifacts (`pipelines.artifacts`), and never imports another stage's insides, `maskgr_cli`, Typer or Rich.

Shape legend, everywhere: B users, K beams, L tokens, H digits per item, V codes per digit, N items, D width.
"""

__version__ = "0.1.0"

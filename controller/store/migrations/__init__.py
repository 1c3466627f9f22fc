"""The schema's history; `store/opening.py` runs what a database still lacks."""

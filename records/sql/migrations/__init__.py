"""Alembic's scripts. A new revision: add versions/NNNN_what.py, and its number as `HEAD` in `migrate`."""

"""`records` in SQL, on SQLite and PostgreSQL: SQLAlchemy Core statements, made once and cached by it."""

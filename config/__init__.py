"""The one settings table and the logging set-up; this package imports no other."""

"""The one settings table and the logging set-up; this room stands on nothing else."""

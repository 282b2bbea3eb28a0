"""Rating usage on Spark."""

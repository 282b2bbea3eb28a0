"""The entry that each operation posts to the journal."""

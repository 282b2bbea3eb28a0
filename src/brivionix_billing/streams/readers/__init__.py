"""One reader for each format of a provider; a reader imports no other reader."""

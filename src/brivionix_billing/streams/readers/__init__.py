"""One reader per streaming API. A reader imports no other reader."""

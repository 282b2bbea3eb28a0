"""Examples of how the library is used."""

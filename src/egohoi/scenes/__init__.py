"""Readers: source files -> Scene. One file per source; each streams."""

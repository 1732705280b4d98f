"""The shop world: its words, its cases, and what is right in each."""

"""The blind arena: people choose between two answers without knowing whose they are, and what follows from it."""

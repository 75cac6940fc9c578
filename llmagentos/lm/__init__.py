"""The language-model half: load, adapt, train, evaluate, answer, export."""

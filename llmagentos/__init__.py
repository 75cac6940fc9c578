"""Organisations fine-tune one language model together; their text never leaves the house."""

"""Journals that a test leaves open, as a process does that ends."""

import weakref


def left(journal):
    """The journal, which is closed when nobody knows it any more; Python 3.13 warns of others."""
    weakref.finalize(journal, journal._rows.close)
    return journal

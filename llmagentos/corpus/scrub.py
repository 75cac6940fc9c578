"""Obvious identifiers out of a text; what is left is still private.

Names, addresses and rare circumstances stay: they take a trained recogniser (such as presidio with
a language model, or scrubadub) and a person's eye. Those weigh hundreds of megabytes, and the small
packages of patterns know few forms but American ones; so these are our own, and few.
"""

import re

PATTERNS = {
    "[mail]": r"(?<![\w.+-])(?:[\w.+-]+@[\w-]+(?:\.[\w-]+)+)+",
    "[iban]": r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b",
    "[date]": (
        r"\b(?:\d{4}[-/.](?:0?[1-9]|1[0-2])[-/.](?:0?[1-9]|[12]\d|3[01])"
        r"|(?:0?[1-9]|[12]\d|3[01])[-/.](?:0?[1-9]|[12]\d|3[01])[-/.](?:19|20)?\d{2})\b"
    ),
    "[phone]": r"(?<![\w.])(?:\+|00)\d{1,3}(?:[ ()/.-]{0,2}\d){6,12}\b"
    r"|(?<![\w.+])\(?0\d{1,4}\)?(?:[ ()/-]{1,2}\d{2,}){1,4}\b"
    r"|(?<![\w.+])\(?\d{3}\)?[ .-]{1,2}\d{3}[ .-]\d{4}\b",
    "[number]": r"(?<![\w.,])(?!(?:19|20)\d\d ?- ?(?:19|20)\d\d\b)\d(?:[ -]?\d){7,}(?!\w)"
    r"|\b[A-Z]{0,3}\d{6,}\b",
}
"""What stands in place of an identifier, and its form; tried in this order.

``[date]`` takes any whole date, since a date of birth looks like others. ``[number]`` is a card,
account, record or case: eight digits and more in groups, or six in a row. No form begins inside a
run of its own letters, which would read a long run again from every letter; so addresses that are
joined, as by ``+``, are one ``[mail]``.
"""

FORMS = {mark: re.compile(form) for mark, form in PATTERNS.items()}


def scrub(text: str) -> str:
    """The text with a mark such as ``[mail]`` in place of every identifier of a known form.

    Examples:
        >>> scrub("Call +49 30 901820 about ana@example.org, born 3.4.1961")
        'Call [phone] about [mail], born [date]'
    """
    for mark, form in FORMS.items():
        text = form.sub(mark, text)
    return text

# SPDX-License-Identifier: Apache-2.0
"""Texts of other machines, as a terminal or a log may show them."""


def printable(text: str, *, keep: str = "") -> str:
    """``text`` with escapes for what could forge lines or steer a terminal, but for ``keep``."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each in keep else each.encode("unicode_escape").decode()
        for each in text
    )

"""Names as they travel: international domains in their ASCII form. No I/O."""

import idna


def ascii_domain(domain: str) -> str:
    """Return the domain as A-labels, in lower case ("bücher.example" becomes "xn--bcher-kva.example").

    Address literals and ASCII names pass as they are.

    Raises:
        ValueError: the name has no ASCII form (`idna.IDNAError` is one). Source: RFC 5891 4.
    """
    if domain.isascii():
        return domain
    return idna.encode(domain, uts46=True).decode("ascii")

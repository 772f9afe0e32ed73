"""What tests/tools/docs.py is made of."""


class Wrong(Exception):
    """What a document says is not so."""

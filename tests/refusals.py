"""What tests of locks share."""

from py4j.protocol import Py4JJavaError


class RefusedError(Py4JJavaError):
    """What a store refuses, without a JVM that says so."""

    def __init__(self, text: str) -> None:
        Exception.__init__(self, text)
        self.text = text

    def __str__(self) -> str:
        return self.text

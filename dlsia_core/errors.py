"""Errors of the numerical library; each also is the built-in that a caller would expect."""


class ArrayError(ValueError):
    """An array or a number has a shape, type or range that the function cannot use."""


class SettingError(ValueError):
    """A setting of a network, a training or a grid is not allowed."""

"""What can go wrong in a training; in each case the last checkpoint stays as it was written."""


class TrainingError(RuntimeError):
    """A training could not be finished."""


class TrainingDivergedError(TrainingError, ArithmeticError):
    """The loss or the gradient is no finite number."""


class TrainingTimeoutError(TrainingError, TimeoutError):
    """The allowed seconds are over; the checkpoint holds the state, and the same call with more time resumes it."""


class CheckpointMismatchError(TrainingError, ValueError):
    """The checkpoint belongs to another network, other settings or other data."""

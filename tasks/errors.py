"""Errors that a user of the pipeline can act on. None of them is retried: time does not heal bad input."""


class PipelineError(Exception):
    """Base of the project's own errors; messages say what was wrong, what was given, what is allowed, what to do."""


class SourceError(PipelineError, ValueError):
    """The source of a scan cannot be used: empty, outside the allowed roots, frames of several shapes."""


class FrameReadError(PipelineError, OSError):
    """A detector file is incomplete, corrupt or of an unknown kind; it is quarantined, never read as data."""


class SettingsError(PipelineError, ValueError):
    """Settings contradict each other or the scan."""


class StoreError(PipelineError, ValueError):
    """The scan store is missing, in use, of another format, or does not agree with its ledger."""


class HealthError(PipelineError, RuntimeError):
    """Something that an unattended beamtime needs is not well; the message says what, and what to do."""


class ScansFailedError(PipelineError, RuntimeError):
    """Some scans of a beamtime could not be processed; the others are done."""

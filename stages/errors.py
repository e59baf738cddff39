"""The error types that stages raise, under one name for stages and command line alike."""

from radnerf.errors import BackendUnavailable, BadInput, Diverged, Interrupted, RadnerfError

__all__ = ["BackendUnavailable", "BadInput", "Diverged", "Interrupted", "RadnerfError"]

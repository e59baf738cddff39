"""The error types that stages raise, under one name for stages and command line alike, and the hint that many share."""

from radnerf.errors import BackendUnavailable, BadInput, Diverged, Interrupted, RadnerfError

__all__ = ["DELETE_AND_REPEAT", "BackendUnavailable", "BadInput", "Diverged", "Interrupted", "RadnerfError"]

DELETE_AND_REPEAT = "delete it and run the same command again"
"""What to do about a file of the subject's own that is damaged: the stage that wrote it writes it anew."""

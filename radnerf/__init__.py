"""radnerf: real-time neural radiance fields for talking portraits."""

"""Tests on clusters of one machine; only with ``make cluster-test``."""

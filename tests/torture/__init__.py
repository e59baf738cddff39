"""Faults by the dozen: kills at random points, and runs that are long."""

"""A window on a portrait: a page of this machine's own browser, served on the loopback interface and nowhere else."""

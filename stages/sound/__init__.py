"""Sound and what is heard in it: reading any file as 16 kHz mono, and the front ends that turn it into features."""

"""The embedded demo subject: a drawn talking head with synthesised speech, and the truth about every frame."""

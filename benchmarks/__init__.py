"""Measurements, side by side with peers, in one command: ``make bench``."""

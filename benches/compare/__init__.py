"""The parts of ../compare.py, and the two small programs in C that it measures with."""

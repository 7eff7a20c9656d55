"""The simulator is tested like anything else: it repeats itself, its faults do what they say, its checks can fail."""

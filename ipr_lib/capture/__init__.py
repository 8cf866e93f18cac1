"""The built-in capture: a small studio that writes the prepared Human3.6M layout, for everyone who has no licence yet."""

"""What a venue says means: tests of the pure room, driven with bytes and time."""

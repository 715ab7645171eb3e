"""What goes wrong between the programs, and the judge of what came through: for the suite, and for scripts/soak.py."""

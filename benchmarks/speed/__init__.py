"""How fast a run is beside what else one would reach for, in one go, on one machine."""

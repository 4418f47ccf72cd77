"""Tools that a turn can call, between turns and services; providers do not depend on them."""

"""Tools that a turn can call, between turns and services; providers do not know them."""

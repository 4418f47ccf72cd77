"""Stand-ins for what Parley talks to, as real servers on loopback."""

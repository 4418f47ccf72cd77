"""The job catalogue: what runs, when, and within which limits."""

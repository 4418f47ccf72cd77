"""Maintenance: purges by age, closing of stale turns and lost runs, and search documents. All work in batches."""

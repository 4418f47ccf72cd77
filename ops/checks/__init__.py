"""The framework of checks: declarations, their context, findings, and running one check."""

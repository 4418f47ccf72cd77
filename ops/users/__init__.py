"""User administration for operators: accounts, API keys, audited reading and export, and erasure."""

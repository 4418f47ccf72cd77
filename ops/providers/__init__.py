"""AI providers for operators: list, runtime choice of the default provider, and test requests."""

"""HTTP calls to other servers, with deadlines, cancellation and a circuit breaker. It imports none of its callers."""

"""The systems that `benchmarks.decode` compares, each behind the same five methods, each in its own process."""

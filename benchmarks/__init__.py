"""Side-by-side timings with peers: `python -m benchmarks`. Never part of the tests."""

"""The tests. They are a package so that tests/engine is never taken for engine."""

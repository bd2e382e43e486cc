"""Metrics: their names and directions (light), and the classes that compute them (imported when first used)."""

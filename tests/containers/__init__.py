"""Tests that run in containers where there is an engine."""
